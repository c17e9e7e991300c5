"""`python -m aiohttp_ably.emulator`: run the emulator from a shell, and print what happens in it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import Sequence

from .journal import LOG
from .server import Emulator
from .tls import Certificate

_DESCRIPTION = "A local emulator of Ably. It prints its API keys and client options, and what happens."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until it is interrupted; returns the exit status."""
    options = _parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        asyncio.run(_serve(options))
    except (OSError, ValueError) as error:
        print(f"the emulator cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        LOG.removeHandler(handler)
    return 0


async def _serve(options: argparse.Namespace) -> None:
    emulator = Emulator(
        options.key or None,
        host=options.host,
        port=options.port,
        tls=_tls(options),
        tls_port=options.tls_port or 0,
        basic_over_http=not options.refuse_basic_over_http,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with emulator:
        print(f"Ably emulator at {emulator.url}")
        if options.tls_port is not None:
            print(f"          and at {emulator.tls_url}")
        for key in emulator.keys:
            print(f"API key          {key}")
        print(f"ably-js          {{ endpoint: '{emulator.host}', port: {emulator.port}, tls: false }}")
        print(f"ably-python      endpoint='{emulator.host}', port={emulator.port}, tls=False", flush=True)
        await stop.wait()


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.tls_port is None:
        return None
    if options.tls_cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        return context
    certificate = Certificate({options.host, "localhost"})
    if options.write_ca is not None:
        certificate.write(options.write_ca)
    return certificate.context()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m aiohttp_ably.emulator", description=_DESCRIPTION)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=9080, help="port for plain HTTP (%(default)s); 0: a free port"
    )
    parser.add_argument(
        "--key",
        action="append",
        help="an API key, <appId>.<keyId>:<secret>; repeatable (default: a random key)",
    )
    parser.add_argument("--tls-port", type=int, help="also listen with TLS on this port; 0: a free port")
    parser.add_argument("--tls-cert", help="certificate chain for TLS, PEM (default: self-signed)")
    parser.add_argument("--tls-key", help="private key of the certificate, PEM (default: in the same file)")
    parser.add_argument(
        "--write-ca", metavar="FILE", help="write the self-signed certificate to FILE, for clients to trust"
    )
    parser.add_argument(
        "--refuse-basic-over-http", action="store_true", help="refuse API keys over plain HTTP, as Ably does"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
