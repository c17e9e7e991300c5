"""SessionStore: grants in the client's aiohttp-session."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from typing import Any, NamedTuple

import aiohttp_session
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from ..capability import NOTHING, Capability
from ..errors import InvalidCapability, UsageError
from ..request import AuthRequest
from .base import COOKIE_LIMIT, CapabilityStore, too_long

log: logging.Logger = logging.getLogger(__name__)

_MAX_COOKIES = 256


class SessionStore(CapabilityStore):
    """Stores grants in the client's aiohttp-session.

    With a cookie storage two requests at the same time cannot both take effect: the last response wins. Use
    a storage on the server or send one request at a time. A session that would not fit its cookie is refused
    with TooLarge and stays as it was.

    Args:
        name: the key of the entry in the session.
        in_cookie: whether the session is kept in its cookie, which limits its size. By default True for the
            cookie storages of aiohttp-session and False for others.
    """

    by_client_id = False

    def __init__(self, name: str = "ably", *, in_cookie: bool | None = None) -> None:
        self.name = name
        self.in_cookie = in_cookie
        self._decrypted = _Decrypted()

    async def load(self, auth: AuthRequest) -> Capability:
        """What the session stores for this client id and Ably app; the entry of another client is ignored."""
        entry = await self._entry(auth)
        if entry is None or entry.client_id != auth.client_id:
            return NOTHING
        key = auth.keys.get(entry.key_name)
        if key is None:
            return NOTHING
        if key is not auth.keys.newest and entry.granted:  # the keys were rotated
            session = await _session(auth)
            session[self.name] = _members(auth, entry.granted)
        return entry.granted

    async def change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        """Release and add. A session that stays the same is not touched."""
        before = await self.load(auth)
        granted = before.without(*release) | add
        if granted == before:
            return granted
        session = await _session(auth)
        if granted:
            members = _members(auth, granted)
            await self._check_length(auth, session, {**session, self.name: members})
            session[self.name] = members
        else:
            del session[self.name]
        auth.session_changed = True
        return granted

    async def _entry(self, auth: AuthRequest) -> _Entry | None:
        """The entry of the session. That of an encrypted cookie that was decrypted recently is cached."""
        cookie = _encrypted_cookie(_request(auth))
        if cookie is not None and (known := self._decrypted.get(cookie)):
            return known[0]
        session = await _session(auth)
        entry = self._read(session.get(self.name))
        if cookie is not None and not session.new:
            lifetime = cookie.storage.max_age
            self._decrypted.put(cookie, entry, math.inf if lifetime is None else session.created + lifetime)
        return entry

    def _read(self, members: Any) -> _Entry | None:
        if not isinstance(members, dict):
            return None
        try:
            granted = Capability.from_dict(members.get("capability"))
        except InvalidCapability:
            log.warning("the session's entry %r is not a capability; it is ignored", self.name)
            return None
        return _Entry(members.get("client"), members.get("key"), granted)

    async def _check_length(
        self, auth: AuthRequest, session: aiohttp_session.Session, members: dict[str, Any]
    ) -> None:
        """Raise TooLarge when `members` would make the session's cookie too long for browsers."""
        request = _request(auth)
        storage: aiohttp_session.AbstractStorage = request[aiohttp_session.STORAGE_KEY]
        if not (_is_in_cookie(storage) if self.in_cookie is None else self.in_cookie):
            return
        candidate = aiohttp_session.Session(
            session.identity,
            data={"created": int(time.time()), "session": members},
            new=session.new,
            max_age=session.max_age,
        )
        response = web.Response()
        await storage.save_session(request, response, candidate)
        for name, cookie in response.cookies.items():
            length = len(cookie.OutputString())
            if length > COOKIE_LIMIT:
                raise too_long(f"a session cookie {name!r}", length, COOKIE_LIMIT)


class _Entry(NamedTuple):
    """The grant in a session, with the client id and the key that it belongs to."""

    client_id: object
    key_name: object
    granted: Capability


class _Cookie(NamedTuple):
    """An encrypted session cookie, and the storage that can decrypt it."""

    storage: EncryptedCookieStorage
    text: str


class _Decrypted:
    """The entries of session cookies that were decrypted recently, each until its session expires.

    Decryption takes two fifths of a request whose `identify` does not read the session itself. A cookie is
    4,096 bytes at most, so this takes about 1 MiB at most.
    """

    def __init__(self) -> None:
        self._entries: dict[_Cookie, tuple[_Entry | None, float]] = {}
        self._lock = threading.Lock()

    def get(self, cookie: _Cookie) -> tuple[_Entry | None, float] | None:
        """The entry of `cookie` and its expiry; None when it is not known, or expired."""
        known = self._entries.get(cookie)
        return known if known is not None and int(time.time()) <= known[1] else None

    def put(self, cookie: _Cookie, entry: _Entry | None, expires: float) -> None:
        """Remember `entry` until `expires`, in seconds since the epoch."""
        with self._lock:
            while len(self._entries) >= _MAX_COOKIES:
                del self._entries[next(iter(self._entries))]
            self._entries[cookie] = entry, expires


def _encrypted_cookie(request: web.Request) -> _Cookie | None:
    """The encrypted session cookie of `request`; None when the session is loaded, or stored elsewhere."""
    if aiohttp_session.SESSION_KEY in request or aiohttp_session.STORAGE_KEY not in request:
        return None
    storage = request[aiohttp_session.STORAGE_KEY]
    if type(storage) is not EncryptedCookieStorage:
        return None
    text = storage.load_cookie(request)
    return None if text is None or len(text) > COOKIE_LIMIT else _Cookie(storage, text)


def _is_in_cookie(storage: aiohttp_session.AbstractStorage) -> bool:
    """Whether `storage` is a cookie storage of aiohttp-session."""
    kinds: tuple[type, ...] = (aiohttp_session.SimpleCookieStorage, EncryptedCookieStorage)
    # This module needs PyNaCl, so it is loaded only in apps that use its storage.
    if nacl := sys.modules.get("aiohttp_session.nacl_storage"):
        kinds += (nacl.NaClCookieStorage,)
    return isinstance(storage, kinds)


def _members(auth: AuthRequest, granted: Capability) -> dict[str, object]:
    return {"client": auth.client_id, "key": auth.keys.newest.name, "capability": granted.to_dict()}


def _request(auth: AuthRequest) -> web.Request:
    if auth.request is None:
        raise UsageError(
            "SessionStore changes a grant only within a request of that client; use a store that is reached"
            " by client id, such as RedisStore"
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
            " aiohttp_ably.setup(app, ...), so that its middleware runs outside that of aiohttp_ably"
        ) from None
