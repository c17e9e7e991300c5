"""For comparison: FastAPI and ably-python on uvicorn. Prints its port, and serves until it is terminated."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import uvicorn
from ably import AblyRest
from fastapi import FastAPI

app = FastAPI()
ably = AblyRest(os.environ["BENCH_KEY"])


@app.get("/auth")
async def auth(capability: str) -> Any:
    params = {"client_id": "alice", "capability": json.loads(capability)}
    return (await ably.auth.create_token_request(params)).to_dict()


if __name__ == "__main__":
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
