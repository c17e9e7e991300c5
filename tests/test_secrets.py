"""No repr, log, error or traceback contains a secret, not even a traceback with the values of variables."""

from __future__ import annotations

import base64
import io
import logging
import pprint
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from apps import BASE, KEY, KEY_SECRET, SECRET, install, make_app, request_token, rooms, token_capability

from aiohttp_ably import (
    ApiKey,
    ClientSigned,
    JWTIssuer,
    KeyRing,
    MemoryStore,
    RedisStore,
    RevocationFailed,
    ServerStored,
    SignedStore,
    Strategy,
    TokenDetailsIssuer,
    TokenRequestIssuer,
)
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.stores import SignedGrants
from aiohttp_ably.testing import client_options

REDIS_PASSWORD = "the0password0of0redis"
REDIS_URL = f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0"
SECRETS = [
    KEY_SECRET,
    base64.b64encode(KEY.encode()).decode(),
    SECRET,
    base64.urlsafe_b64encode(SECRET.encode()).decode(),
    REDIS_PASSWORD,
]


def assert_no_secret(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, text[max(text.index(secret) - 300, 0) : text.index(secret) + 100]


def with_variables(error: BaseException | None) -> str:
    """The traceback with the value of each variable, as error trackers record it."""
    lines = []
    while error is not None:
        lines += traceback.format_exception_only(error)
        for frame, line in traceback.walk_tb(error.__traceback__):
            lines.append(f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}\n")
            lines += [f"    {name} = {_shown(value)}\n" for name, value in frame.f_locals.items()]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(lines)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return "(no repr)"


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """All log lines of all loggers, with the variables of each traceback."""
    stream = io.StringIO()

    class WithVariables(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            record.exc_text = None  # the text that another handler stored
            return super().format(record)

        def formatException(self, ei: Any) -> str:
            return with_variables(ei[1])

    handler = logging.StreamHandler(stream)
    handler.setFormatter(WithVariables("%(name)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize(
    "value",
    [
        ApiKey(KEY),
        KeyRing([KEY]),
        SignedGrants(SECRET, encrypt=True),
        SignedStore(SECRET),
        ClientSigned(rooms(), secret=SECRET),
        RedisStore(REDIS_URL),
        JWTIssuer(),
        install(web.Application(), ServerStored(rooms(), store=RedisStore(REDIS_URL)), key=KEY),
        Emulator([KEY]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_repr_contains_a_secret(value: Any) -> None:
    for shown in (repr(value), str(value), f"{value}", pprint.pformat(value)):
        assert_no_secret(shown)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "memory": lambda: ServerStored(rooms(), store=MemoryStore(), base=BASE),
    "signed": lambda: ClientSigned(rooms(), secret=SECRET, base=BASE),
    "encrypted": lambda: ClientSigned(rooms(), secret=SECRET, encrypt=True, base=BASE),
}
ISSUERS = {"token request": TokenRequestIssuer, "jwt": JWTIssuer, "token details": TokenDetailsIssuer}


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_no_log_of_a_successful_request_contains_a_secret(
    strategy: str, issuer: str, aiohttp_client: Any, logged: Callable[[], str]
) -> None:
    async with Emulator([ApiKey(KEY, revocable=True)]) as emulator:
        options = {
            "issuer": ISSUERS[issuer](),
            "client_options": client_options(emulator, sdk="python"),
            "key": KEY,
        }
        client = await aiohttp_client(make_app(STRATEGIES[strategy](), **options))
        await token_capability(await request_token(client, {"chat:1": ["publish"]}))
        await token_capability(await request_token(client, {"chat:2": ["publish"]}))
        assert_no_secret(logged())


async def raises(*_: Any) -> Any:
    raise OSError("no database")


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("part", ["identify", "authorize", "store", "key", "identify of a tenant"])
async def test_no_traceback_of_a_failure_contains_a_secret(
    part: str, issuer: str, aiohttp_client: Any, logged: Callable[[], str], unused_tcp_port: int
) -> None:
    options: dict[str, Any] = {
        "issuer": ISSUERS[issuer](),
        "client_options": {"endpoint": "127.0.0.1", "port": unused_tcp_port, "tls": False},
        "timeout": 1,
    }
    strategy: Strategy = ClientSigned(raises if part == "authorize" else rooms(), secret=SECRET)
    if part == "store":
        strategy = ServerStored(rooms(), store=RedisStore(REDIS_URL))
    elif part.startswith("identify"):
        options["identify"] = raises
    elif part == "key":
        options["key"] = lambda request: f"{KEY} "
    if part == "identify of a tenant":
        options["key"] = lambda request: KEY
    client = await aiohttp_client(make_app(strategy, **options))
    response = await request_token(client, {"chat:1": ["publish"]})
    assert response.status == 503
    assert_no_secret(await response.text())
    assert_no_secret(logged())


@pytest.mark.parametrize("grant", ["garbage", "j.e30", "zAAAA.AAAA"])
async def test_no_log_of_an_ignored_grant_contains_a_secret(
    grant: str, aiohttp_client: Any, logged: Callable[[], str]
) -> None:
    client = await aiohttp_client(make_app(STRATEGIES["encrypted"]()))
    await token_capability(await request_token(client, headers={"Ably-Grant": grant}))
    assert "a grant was ignored" in logged()
    assert_no_secret(logged())


@pytest.mark.parametrize("reachable", [True, False])
async def test_no_error_of_a_failed_revocation_contains_a_secret(
    reachable: bool, logged: Callable[[], str], unused_tcp_port: int
) -> None:
    async with Emulator([KEY]) as emulator:
        where = {} if reachable else {"port": unused_tcp_port}
        reach = client_options(emulator, sdk="python", **where)
        ably = install(web.Application(), STRATEGIES["memory"](), key=KEY, client_options=reach)
        with pytest.raises(RevocationFailed) as failure:
            await ably.revoke("alice")
        await ably.close()
    assert_no_secret(with_variables(failure.value))
    assert_no_secret(logged())


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: ApiKey(f"{KEY} "), "<appId>.<keyId>:<secret>"),
        (lambda: ApiKey(KEY_SECRET), "<appId>.<keyId>:<secret>"),
        (lambda: KeyRing([KEY, f"app2.key:{KEY_SECRET}"]), "one Ably app"),
        (lambda: SignedGrants([SECRET, "short"]), "16 bytes"),
        (lambda: install(web.Application(), STRATEGIES["memory"](), key=f"{KEY}\n"), "key="),
        (
            lambda: install(web.Application(), STRATEGIES["memory"](), client_options={"key": KEY}),
            "client_options=",
        ),
    ],
)
def test_no_error_of_invalid_options_contains_a_secret(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        mistake()
    assert_no_secret("".join(traceback.format_exception(refusal.value)))
