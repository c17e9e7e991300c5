"""A redis-server for a benchmark. Prints its port, and serves until it is terminated."""

from __future__ import annotations

import os
import socket
import tempfile

if __name__ == "__main__":
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="bench-redis-")
    print(port, flush=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder, "--daemonize", "no"]
    os.execvp("redis-server", ["redis-server", *options, "--loglevel", "warning"])
