"""Where a server keeps what its clients hold: the store protocol, sessions, and memory."""

from __future__ import annotations

import logging
import math
import time
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import aiohttp_session
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from ..capability import NOTHING, Capability
from ..errors import CapabilityDenied, InvalidCapability, TooLarge, UsageError

if TYPE_CHECKING:
    from aiohttp import web

    from ..request import AuthRequest

log = logging.getLogger(__name__)

_REMEMBERED = 256  # sessions
COOKIE_LIMIT = 4096
"""The longest cookie, attributes and all, that every browser keeps; longer ones they drop without a word."""


class CapabilityStore(Protocol):
    """Keeps one capability for each client id and app key; what it holds for another is never given out.

    `add` and `remove` are atomic: of two at once both take effect. Each returns what is held afterwards.
    """

    keyed_by_client: bool
    """Whether it can be reached without the client's own request, by client id; then it needs one."""

    async def load(self, auth: AuthRequest) -> Capability:
        """What `auth.client_id` holds; nothing where it holds nothing."""
        ...

    async def add(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Keep `capability` beside what is held."""
        ...

    async def remove(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Take `resources` out of what is held; raises InvalidCapability where that cannot be expressed."""
        ...


class MemoryStore:
    """Keeps grants in this process: for development and tests, as a second worker knows nothing of them."""

    keyed_by_client = True

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Capability] = {}

    async def load(self, auth: AuthRequest) -> Capability:
        """What the client holds. What an older key of the ring held moves to the newest."""
        if auth.client_id is None:
            return NOTHING
        held = NOTHING
        for key in auth.keys:
            held |= self._held.pop((key.name, auth.client_id), NOTHING)
        return self._keep(auth, held)

    async def add(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Keep `capability` too."""
        return self._keep(auth, await self.load(auth) | capability)

    async def remove(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Forget `resources`."""
        return self._keep(auth, (await self.load(auth)).without(*resources))

    def _keep(self, auth: AuthRequest, held: Capability) -> Capability:
        owner = (auth.key.name, named_client(auth))
        if held:
            self._held[owner] = held
        else:
            self._held.pop(owner, None)
        return held


def named_client(auth: AuthRequest) -> str:
    """The client id a store can file grants under; raises CapabilityDenied for an anonymous client."""
    if auth.client_id is None:
        raise CapabilityDenied("sign in first: this server keeps what is granted by client id")
    return auth.client_id


class SessionStore:
    """Keeps grants in the client's aiohttp-session, under `name`.

    With a cookie storage two requests at once cannot both take effect: the last response wins. A store on the
    server, or one request at a time, avoids that. A session that would not fit a cookie is refused with
    TooLarge and stays as it was. What a cookie of EncryptedCookieStorage held is known for a while, no longer
    than the session lasts, so that a client that sends it again costs no deciphering.
    """

    keyed_by_client = False

    def __init__(self, name: str = "ably") -> None:
        self.name = name
        self._known: dict[_Sealed, tuple[_Entry | None, float]] = {}

    async def load(self, auth: AuthRequest) -> Capability:
        """What the session holds for this client id and key; another's entry counts as nothing."""
        entry = await self._entry(auth)
        if entry is None or entry.client_id != auth.client_id:
            return NOTHING
        key = auth.keys.get(entry.key_name)
        if key is None:
            return NOTHING
        if key is not auth.key and entry.held is not NOTHING:
            session = await _session(auth)
            session[self.name] = _members(auth, entry.held)
        return entry.held

    async def add(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Keep `capability` too; a session that holds it already is not touched."""
        held = await self.load(auth)
        return await self._write(auth, held, held | capability)

    async def remove(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Forget `resources`; a session that does not hold them is not touched."""
        held = await self.load(auth)
        return await self._write(auth, held, held.without(*resources))

    async def _write(self, auth: AuthRequest, held: Capability, kept: Capability) -> Capability:
        if kept != held:
            session = await _session(auth)
            if kept:
                members = _members(auth, kept)
                await _check_length(auth, session, {**session, self.name: members})
                session[self.name] = members
            else:
                del session[self.name]
            auth.session_changed = True
        return kept

    async def _entry(self, auth: AuthRequest) -> _Entry | None:
        """What is kept in the session. A cookie that was deciphered not long ago is known, until it ends."""
        sealed = _sealed_session(auth)
        if sealed is not None and (known := self._known.get(sealed)) and int(time.time()) <= known[1]:
            return known[0]
        session = await _session(auth)
        entry = self._read(session.get(self.name))
        if sealed is not None and not session.new:
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            lasts = sealed.storage.max_age
            self._known[sealed] = entry, math.inf if lasts is None else session.created + lasts
        return entry

    def _read(self, members: Any) -> _Entry | None:
        if not isinstance(members, dict):
            return None
        try:
            held = Capability.from_dict(members.get("capability"))
        except InvalidCapability:
            log.warning("the session's entry %r holds no capability; it counts as nothing", self.name)
            return None
        return _Entry(members.get("client"), members.get("key"), held)


class _Entry(NamedTuple):
    """What a session holds, and whose it is."""

    client_id: object
    key_name: object
    held: Capability


class _Sealed(NamedTuple):
    """A cookie that is a whole session, enciphered, and what can open it."""

    storage: EncryptedCookieStorage
    cookie: str


def _sealed_session(auth: AuthRequest) -> _Sealed | None:
    """The session as it came; None where it is opened already, in no cookie, or kept in another way."""
    request = _request(auth)
    names = set(request)
    if aiohttp_session.SESSION_KEY in names or aiohttp_session.STORAGE_KEY not in names:
        return None
    storage = request[aiohttp_session.STORAGE_KEY]
    if type(storage) is not EncryptedCookieStorage or (cookie := storage.load_cookie(request)) is None:
        return None
    return _Sealed(storage, cookie)


def _members(auth: AuthRequest, held: Capability) -> dict[str, object]:
    return {"client": auth.client_id, "key": auth.key.name, "capability": held.to_dict()}


def _request(auth: AuthRequest) -> web.Request:
    if auth.request is None:
        raise UsageError(
            "a grant kept in a session can be changed only within a request of that client; to change it from"
            " elsewhere use a store keyed by client"
        )
    return auth.request


async def _session(auth: AuthRequest) -> aiohttp_session.Session:
    request = _request(auth)
    try:
        return await aiohttp_session.get_session(request)
    except RuntimeError:
        if aiohttp_session.STORAGE_KEY in request:
            raise
        raise UsageError(
            "SessionStore needs aiohttp-session: call aiohttp_session.setup(app, storage) before"
            " aiohttp_ably.setup(app, ...), so that ours runs inside it"
        ) from None


async def _check_length(auth: AuthRequest, session: aiohttp_session.Session, members: dict[str, Any]) -> None:
    """Refuse what the storage would put into a cookie that browsers drop."""
    request = _request(auth)
    storage: aiohttp_session.AbstractStorage = request[aiohttp_session.STORAGE_KEY]
    # No common class marks the storages that keep all of a session in its cookie; their names do.
    if not any(kind.__name__.endswith("CookieStorage") for kind in type(storage).__mro__):
        return
    candidate = aiohttp_session.Session(
        session.identity,
        data={"created": int(time.time()), "session": members},
        new=session.new,
        max_age=session.max_age,
    )
    cookie = _Measured()
    await storage.save_session(request, cookie, candidate)  # type: ignore[arg-type]
    if cookie.length > COOKIE_LIMIT:
        raise TooLarge(
            f"the session would need a cookie of {cookie.length} bytes, and browsers keep {COOKIE_LIMIT};"
            " hold fewer resources, a pattern for many of them, or keep sessions on the server"
        )


class _Measured:
    """Stands in for a response to learn how long the cookie set on it is."""

    length = 0

    def set_cookie(self, name: str, value: str, **attributes: Any) -> None:
        self.length = len(cookie_text(name, value, attributes))


def cookie_text(name: str, value: str, attributes: dict[str, Any]) -> str:
    """The value of a Set-Cookie header."""
    cookie: SimpleCookie = SimpleCookie()
    cookie[name] = value
    for attribute, setting in attributes.items():
        if setting is not None and setting is not False:
            cookie[name][attribute.replace("_", "-")] = setting
    return cookie[name].OutputString()
