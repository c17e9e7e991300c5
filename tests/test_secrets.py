"""Secrets are shown nowhere: no repr, log, error or traceback, be it one with the values of variables."""

from __future__ import annotations

import base64
import io
import logging
import pprint
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from apps import BASE, KEY, SECRET, ask, granted, install, make_app, rooms

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

KEY_SECRET = KEY.partition(":")[2]
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
    """The traceback as error trackers take it: with what each variable held."""
    told = []
    while error is not None:
        told += traceback.format_exception_only(error)
        for frame, line in traceback.walk_tb(error.__traceback__):
            told.append(f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}\n")
            told += [f"    {name} = {_shown(value)}\n" for name, value in frame.f_locals.items()]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(told)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return "(half made)"


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """All that is logged, by whomever, with the variables of each traceback."""
    stream = io.StringIO()

    class WithVariables(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            record.exc_text = None  # what another handler made of it
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
    "holder",
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
    ids=lambda holder: type(holder).__name__,
)
def test_no_representation_shows_a_secret(holder: Any) -> None:
    for shown in (repr(holder), str(holder), f"{holder}", pprint.pformat(holder)):
        assert_no_secret(shown)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "memory": lambda: ServerStored(rooms(), store=MemoryStore(), base=BASE),
    "signed": lambda: ClientSigned(rooms(), secret=SECRET, base=BASE),
    "encrypted": lambda: ClientSigned(rooms(), secret=SECRET, encrypt=True, base=BASE),
}
ISSUERS = {"token request": TokenRequestIssuer, "jwt": JWTIssuer, "token details": TokenDetailsIssuer}


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_nothing_is_logged_of_a_secret_when_all_is_well(
    strategy: str, issuer: str, aiohttp_client: Any, logged: Callable[[], str]
) -> None:
    async with Emulator([ApiKey(KEY, revocable=True)]) as emulator:
        reach = {"endpoint": emulator.host, "port": emulator.port, "tls": False}
        options: dict[str, Any] = {"issuer": ISSUERS[issuer](), "client_options": reach, "key": KEY}
        client = await aiohttp_client(make_app(STRATEGIES[strategy](), **options))
        await granted(await ask(client, {"chat:1": ["publish"]}))
        await granted(await ask(client, {"chat:2": ["publish"]}))
        assert_no_secret(logged())


async def raises(*_: Any) -> Any:
    raise OSError("no database")


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("part", ["identify", "authorize", "store", "key", "identify of a tenant"])
async def test_no_traceback_of_a_failure_shows_a_secret(
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
    response = await ask(client, {"chat:1": ["publish"]})
    assert response.status == 503
    assert_no_secret(await response.text())
    assert_no_secret(logged())


@pytest.mark.parametrize("grant", ["garbage", "j.e30", "zAAAA.AAAA"])
async def test_no_log_of_a_dropped_grant_shows_a_secret(
    grant: str, aiohttp_client: Any, logged: Callable[[], str]
) -> None:
    client = await aiohttp_client(make_app(STRATEGIES["encrypted"]()))
    await granted(await ask(client, headers={"Ably-Grant": grant}))
    assert "a grant was ignored" in logged()
    assert_no_secret(logged())


@pytest.mark.parametrize("reachable", [True, False])
async def test_no_failure_at_ably_shows_a_secret(
    reachable: bool, logged: Callable[[], str], unused_tcp_port: int
) -> None:
    async with Emulator([KEY]) as emulator:
        port = emulator.port if reachable else unused_tcp_port
        reach = {"endpoint": emulator.host, "port": port, "tls": False}
        ably = install(web.Application(), STRATEGIES["memory"](), key=KEY, client_options=reach)
        with pytest.raises(RevocationFailed) as failure:
            await ably.revoke("alice")
        await ably.close()
    assert_no_secret(with_variables(failure.value))
    assert_no_secret(logged())


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: ApiKey(f"{KEY} "),
        lambda: ApiKey(KEY_SECRET),
        lambda: KeyRing([KEY, f"app2.key:{KEY_SECRET}"]),
        lambda: SignedGrants([SECRET, "short"]),
        lambda: install(web.Application(), STRATEGIES["memory"](), key=f"{KEY}\n"),
        lambda: install(web.Application(), STRATEGIES["memory"](), client_options={"key": KEY}),
    ],
)
def test_no_error_of_the_set_up_shows_a_secret(mistake: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        mistake()
    assert_no_secret("".join(traceback.format_exception(refusal.value)))
