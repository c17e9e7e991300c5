"""The command `python -m aiohttp_ably`: `check` tests an API key, and this machine and Ably with it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .ably_api import NOT_REVOCABLE, AblyApi
from .capability import Capability
from .errors import RevocationFailed, Unavailable
from .keys import ApiKey, KeyRing

Level = Literal["ok", "warning", "failed"]

CLOCK_LIMIT = 120
"""How many seconds the clock may be off before Ably refuses a TokenRequest (code 40104)."""
_EVERYTHING = Capability({"*": "*"})
_DESCRIPTION = """\
Checks the API key in ABLY_API_KEY: its form, whether Ably can be reached and accepts it, how far the clock
is off, what the key may do, and whether its tokens can be revoked. The exit status is 1 when something
failed, and 0 otherwise; a warning is not a failure.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m aiohttp_ably")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("check", help="check an API key, and Ably with it", description=_DESCRIPTION)
    one.add_argument("--emulator", action="store_true", help="use a local emulator of Ably and a key of its")
    one.add_argument("--endpoint", help="the endpoint of Ably, as SDKs take it; by default the real one")
    one.add_argument("--port", type=int, help="with --endpoint: the port, when it is not the default")
    one.add_argument("--no-tls", action="store_true", help="with --endpoint on this machine: plain HTTP")
    options = parser.parse_args(arguments)
    # The command prints every error itself; the SDK would log it a second time.
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


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Level
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.subject:<10} {self.message}"


async def check(key_text: str, options: Mapping[str, Any] | None = None) -> AsyncIterator[Finding]:
    """Check the API key `key_text`, and Ably with it; stops after a failure that makes the rest pointless.

    `options` are client options as for `setup()`. The check requests Ably's time and a token that lives for a
    second, and revokes the tokens of a group that does not exist.
    """
    try:
        key = ApiKey(key_text)
    except ValueError as error:
        yield Finding("failed", "key", str(error))
        return
    yield Finding("ok", "key", f"{key.name} has the form of a key")
    control = AblyApi(options)
    try:
        began, before = time.perf_counter(), time.time()
        try:
            offset = await control.time() - (before + time.time()) / 2
        except Unavailable as error:
            yield Finding("failed", "reach", error.message)
            return
        yield Finding("ok", "reach", f"Ably answers in {(time.perf_counter() - began) * 1000:.0f} ms")
        yield _clock(offset)
        rights = await _rights(key, control.options)
        yield rights
        if rights.level != "failed":
            yield await _revocable(key, control)
    finally:
        await control.close()


def _clock(offset: float) -> Finding:
    told = f"this machine's clock is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} Ably's"
    if abs(offset) < CLOCK_LIMIT:
        return Finding("ok", "clock", told)
    return Finding(
        "warning", "clock", f"{told}: it works while setup() has clock_sync=, but correct the clock"
    )


async def _rights(key: ApiKey, options: Mapping[str, Any]) -> Finding:
    """The capability of the key: that of a token without a requested capability."""
    from ably import AblyException, AblyRest

    async with AblyRest(key_name=key.name, key_secret=key.secret, **options) as rest:
        try:
            details = await rest.auth.request_token({"ttl": 1000}, query_time=True)
            capability = Capability.parse(str(details.capability))
        except AblyException as error:
            return Finding("failed", "rights", f"Ably refuses the key: {error.code} {error.message}")
        except Exception as error:
            return Finding("failed", "rights", f"Ably's answer was not understood: {type(error).__name__}")
    if capability.covers(_EVERYTHING):
        message = (
            "the key may do everything on every channel; give the one that signs for clients no more than"
            " clients need, so that a mistake in your rules cannot grant more"
        )
        return Finding("warning", "rights", message)
    return Finding("ok", "rights", f"the key may {capability.text}")


async def _revocable(key: ApiKey, control: AblyApi) -> Finding:
    nobody = f"revocationKey:aiohttp-ably-check-{secrets.token_hex(8)}"
    try:
        await control.revoke(KeyRing([key]), [nobody], margin=True)
    except RevocationFailed as error:
        if str(NOT_REVOCABLE) not in error.message:
            return Finding("failed", "revocation", error.failed[nobody])
        return Finding("warning", "revocation", error.failed[nobody])
    message = "its tokens can be revoked, and live an hour at most: ApiKey(..., revocable=True)"
    return Finding("ok", "revocation", message)


if __name__ == "__main__":
    sys.exit(main())
