"""ably-js in a Node.js process, driven by one command at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from real_parts import require_ably_js, require_node


class PlainJs:
    """A Node.js process that runs `plain_client.mjs`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command; returns its result."""
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None
        assert writer is not None
        writer.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        line = await asyncio.wait_for(reader.readline(), 30)
        assert line, "the Node.js process ended"
        return json.loads(line)


@asynccontextmanager
async def plain_js() -> AsyncIterator[PlainJs]:
    """A Node.js process that ends with the context."""
    node, folder = require_node(), require_ably_js()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        node, "plain_client.mjs", cwd=folder, stdin=pipe, stdout=pipe
    )
    try:
        yield PlainJs(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
