"""`python -m aiohttp_ably`: what can be done from a shell."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .check import check

_DESCRIPTION = """\
Checks the API key in ABLY_API_KEY: its form, whether Ably can be reached and knows it, how far the clock
is off, what the key may do, and whether its tokens can be revoked. The exit status is 0 when nothing
failed, and 1 when something did; a warning is no failure.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m aiohttp_ably")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("check", help="check an API key, and Ably with it", description=_DESCRIPTION)
    one.add_argument("--emulator", action="store_true", help="use a local emulator of Ably and a key of its")
    one.add_argument("--endpoint", help="where Ably is, as SDKs take it; by default the real one")
    one.add_argument("--port", type=int, help="with --endpoint: the port, where it is not the usual")
    one.add_argument("--no-tls", action="store_true", help="with --endpoint on this machine: plain HTTP")
    options = parser.parse_args(arguments)
    # What is wrong is printed; the SDK would log it once more.
    logging.disable(logging.CRITICAL)
    try:
        return asyncio.run(_check(options))
    except ValueError as error:
        parser.error(str(error))
    finally:
        logging.disable(logging.NOTSET)


async def _check(options: argparse.Namespace) -> int:
    if options.emulator:
        from .emulator import Emulator

        async with Emulator() as emulator:
            reach = {"endpoint": emulator.host, "port": emulator.port, "tls": False}
            return await _report(emulator.key, reach)
    key = os.environ.get("ABLY_API_KEY")
    if not key:
        print("ABLY_API_KEY is not set; set it to a key of your Ably app, or try --emulator", file=sys.stderr)
        return 1
    reach = {}
    if options.endpoint:
        reach = {"endpoint": options.endpoint, "tls": not options.no_tls}
    if options.port:
        reach["port" if options.no_tls else "tls_port"] = options.port
    return await _report(key, reach)


async def _report(key: str, reach: Mapping[str, Any]) -> int:
    status = 0
    async for finding in check(key, reach):
        print(finding)
        if finding.level == "failed":
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
