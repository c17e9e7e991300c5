"""A real redis-server for tests, on a free port, which a test can crash, pause and restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from real_parts import require_redis_server


class RedisServer:
    """Run redis-server in `folder`. Everything acknowledged is on disk, so a restart loads it again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the process; returns when it accepts connections."""
        command = [require_redis_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(
            [*command, *self.options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.wait_for("Ready to accept connections")

    def wait_for(self, text: str) -> None:
        """Return when its log contains `text`; raises RuntimeError when the process ends before."""
        process, lines = self._started(), []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if text in line:
                return
        self.kill()
        raise RuntimeError("redis-server ended:\n" + "".join(lines))

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        process = self._started()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self._process = None

    def hang(self) -> None:
        """Pause the process: it accepts connections and answers nothing, until `go_on`."""
        os.kill(self._started().pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._started().pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.kill()

    def _started(self) -> subprocess.Popen[str]:
        assert self._process is not None, "redis-server is not running"
        return self._process


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
