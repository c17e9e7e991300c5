"""A capability the client keeps, signed by the server: signing, verifying, rotation, encryption."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..capability import Capability
from ..capability import strict_json as _json
from ..errors import InvalidCredential
from ..keys import KeyRing
from ..tokens import base64url

_MIN_SECRET = 16
_MAX_PAYLOAD = 1 << 20
_PLAIN, _DEFLATED, _ENCRYPTED = "j", "z", "e"
REMEMBERED = 256
"""How many grants that were verified are known."""
_SHORT = 1024  # characters; what is longer may hold many resources, and is not remembered


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed grant says. `issued`, when its chain began, and `expires` in seconds since the epoch.

    `is_current` says that it would be signed in the same way now: by the newest secret, for the newest key.
    """

    capability: Capability
    issued: int
    expires: int
    is_current: bool = True


class SignedGrants:
    """Signs grants and verifies them: HMAC-SHA256 over `<clientId>:<payload>`.

    The text of a grant is `<payload>.<digest>`, the digest in URL-safe base64 without padding. The payload is
    signed as it travels: a letter and the URL-safe base64 of the compact JSON of capability, key name, issued
    and expires, plain (`j`), deflated where that is shorter (`z`), or encrypted (`e`, Fernet). It holds no
    colon, so that no other client id and payload give the same text.

    `secret` is one secret of 16 bytes or more, or several: the newest signs, all verify. A grant lasts for
    `lifetime` from its last renewal, and its chain of renewals ends `limit` after it began. `encrypt` hides
    from the client what it holds. Raises ValueError for a short secret or a `limit` under the `lifetime`.
    """

    def __init__(
        self,
        secret: str | bytes | Iterable[str | bytes],
        *,
        lifetime: timedelta = timedelta(hours=24),
        limit: timedelta = timedelta(days=7),
        encrypt: bool = False,
    ) -> None:
        several = (secret,) if isinstance(secret, (str, bytes)) else secret
        self._secrets = [one.encode() if isinstance(one, str) else bytes(one) for one in several]
        if not self._secrets or any(len(one) < _MIN_SECRET for one in self._secrets):
            raise ValueError(
                f"a grant's secret has at least {_MIN_SECRET} bytes; make one with"
                " secrets.token_urlsafe(32) and keep it out of the code"
            )
        if not timedelta(seconds=1) <= lifetime <= limit:
            raise ValueError("lifetime= must be at least a second, and no longer than limit=")
        self.lifetime = int(lifetime.total_seconds())
        self.limit = int(limit.total_seconds())
        self._fernet = MultiFernet([_fernet(one) for one in self._secrets]) if encrypt else None
        self._opened = lru_cache(maxsize=REMEMBERED)(self._open)

    def sign(
        self,
        client_id: str | None,
        key_name: str,
        capability: Capability,
        *,
        now: float,
        issued: int | None = None,
    ) -> tuple[str, Grant]:
        """The text of a grant, and what it says. `issued` is when its chain began; None begins one now."""
        issued = int(now) if issued is None else issued
        grant = Grant(capability, issued, min(int(now) + self.lifetime, issued + self.limit))
        payload = self._pack(
            f'{{"capability":{capability.text},"key":{_json.dumps(key_name)}'
            f',"issued":{grant.issued},"expires":{grant.expires}}}'
        )
        return f"{payload}.{_digest(self._secrets[0], client_id, payload)}", grant

    def verify(self, text: str, client_id: str | None, keys: KeyRing, *, now: float) -> Grant:
        """What `text` grants to `client_id` at `now` under one of `keys`.

        The digest is compared, in constant time, before anything in the payload is read; a short text that
        was verified for the same client not long ago is known, and only its time and key are judged again.
        Raises InvalidCredential for another client's, a changed, expired, or malformed grant.
        """
        opened = self._opened if len(text) <= _SHORT else self._open
        grant, key_name = opened(text, client_id)
        if grant.expires <= now or grant.issued + self.limit <= now:
            raise InvalidCredential("the grant has expired")
        if key_name == keys.newest.name:
            return grant
        if keys.get(key_name) is None:
            raise InvalidCredential("the grant belongs to another Ably key")
        return replace(grant, is_current=False)

    def is_fresh(self, grant: Grant, *, now: float) -> bool:
        """Whether signing `grant` again would change nothing, and win less than a tenth of a lifetime."""
        enough = grant.expires + self.lifetime / 10
        return grant.is_current and (now + self.lifetime < enough or grant.issued + self.limit < enough)

    def _open(self, text: str, client_id: str | None) -> tuple[Grant, str]:
        """What a grant of that text says, and the name of its key. Clients send the same again and again."""
        payload, _, digest = text.rpartition(".")
        given = digest.encode("utf-8", "replace")
        expected = [_digest(one, client_id, payload).encode() for one in self._secrets]
        if not any(hmac.compare_digest(one, given) for one in expected):
            raise InvalidCredential("the grant was not signed here for this client, or it was changed")
        members = self._unpack(payload)
        as_now = (payload[:1] == _ENCRYPTED) == (self._fernet is not None)
        is_current = as_now and hmac.compare_digest(expected[0], given)
        capability = Capability.from_dict(members["capability"])
        return Grant(capability, members["issued"], members["expires"], is_current), members["key"]

    def _pack(self, text: str) -> str:
        plain = text.encode()
        deflated = zlib.compress(plain)
        if self._fernet is not None:
            return _ENCRYPTED + self._fernet.encrypt(min(plain, deflated, key=len)).decode().rstrip("=")
        if len(deflated) < len(plain):
            return _DEFLATED + base64url(deflated)
        return _PLAIN + base64url(plain)

    def _unpack(self, payload: str) -> dict[str, Any]:
        kind, data = payload[:1], payload[1:]
        if kind == _ENCRYPTED:
            if self._fernet is None:
                raise InvalidCredential("the grant is encrypted, and encrypt=True is not set")
            try:
                packed = self._fernet.decrypt(_padded(data))
            except InvalidToken:
                raise InvalidCredential("the grant was encrypted under another secret") from None
            kind = _PLAIN if packed.startswith(b"{") else _DEFLATED
        else:
            packed = base64.urlsafe_b64decode(_padded(data))
        # Only what was signed here gets this far, so it is read as it was written.
        members: dict[str, Any] = json.loads(_inflate(packed) if kind == _DEFLATED else packed)
        return members


def _fernet(secret: bytes) -> Fernet:
    derived = HKDF(SHA256(), length=32, salt=None, info=b"aiohttp-ably grant encryption").derive(secret)
    return Fernet(base64.urlsafe_b64encode(derived))


def _digest(secret: bytes, client_id: str | None, payload: str) -> str:
    text = f"{client_id or ''}:{payload}".encode("utf-8", "replace")
    return base64url(hmac.digest(secret, text, hashlib.sha256))


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _MAX_PAYLOAD)


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
