"""SignedGrants: a capability that the client keeps, signed with a secret of the server."""

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

from ..capability import Capability, strict_json
from ..errors import InvalidCredential
from ..keys import KeyRing
from ..tokens import base64url

_MIN_SECRET = 16
_MAX_PAYLOAD = 1 << 20
_PLAIN, _DEFLATED, _ENCRYPTED = "j", "z", "e"
CACHED_GRANTS = 256
"""How many verified grants are cached."""
_SHORT = 1024  # characters; longer grants may have many resources and are not cached


@dataclass(frozen=True, slots=True)
class Grant:
    """The content of a grant.

    `issued` is when the first grant of this series of renewals was issued, `expires` when this one expires,
    both in seconds since the epoch. `is_current` is whether the newest secret signed it for the newest key.
    """

    capability: Capability
    issued: int
    expires: int
    is_current: bool = True


class SignedGrants:
    """Signs and verifies grants: HMAC-SHA256 over `<clientId>:<payload>`.

    A grant is `<payload>.<digest>`, the digest in URL-safe base64 without padding. The payload is a letter
    and the URL-safe base64 of compact JSON with capability, key name, issued and expires. The letter says how
    the JSON is packed: plain (`j`), deflated where that is shorter (`z`), or encrypted with Fernet (`e`). The
    payload has no colon, so no other client id and payload give the same signed text.

    Args:
        secret: one secret of 16 bytes or more, or several. The newest comes first and signs, all verify.
        lifetime: how long a grant is valid after its last renewal.
        limit: how long a series of renewals may last after its first grant.
        encrypt: whether to encrypt the payload, so that the client cannot read its grant.

    Raises:
        ValueError: a secret is too short, or `limit` is under `lifetime`.
    """

    def __init__(
        self,
        secret: str | bytes | Iterable[str | bytes],
        *,
        lifetime: timedelta = timedelta(hours=24),
        limit: timedelta = timedelta(days=7),
        encrypt: bool = False,
    ) -> None:
        secrets = (secret,) if isinstance(secret, (str, bytes)) else secret
        self._secrets = [one.encode() if isinstance(one, str) else bytes(one) for one in secrets]
        if not self._secrets or any(len(one) < _MIN_SECRET for one in self._secrets):
            raise ValueError(
                f"a grant's secret has at least {_MIN_SECRET} bytes; make one with"
                " secrets.token_urlsafe(32) and keep it out of the code"
            )
        if not timedelta(seconds=1) <= lifetime <= limit:
            raise ValueError("lifetime= must be at least a second, and no longer than limit=")
        self.lifetime: int = int(lifetime.total_seconds())
        self.limit: int = int(limit.total_seconds())
        self._fernet = MultiFernet([_fernet(one) for one in self._secrets]) if encrypt else None
        self._cached_open = lru_cache(maxsize=CACHED_GRANTS)(self._open)

    def sign(
        self,
        client_id: str | None,
        key_name: str,
        capability: Capability,
        *,
        now: float,
        issued: int | None = None,
    ) -> tuple[str, Grant]:
        """Sign a grant; returns its text and its content.

        `now` and `issued` are in seconds since the epoch. `issued` is that of the first grant of the series;
        by default a new series starts now.
        """
        issued = int(now) if issued is None else issued
        grant = Grant(capability, issued, min(int(now) + self.lifetime, issued + self.limit))
        payload = self._pack(
            f'{{"capability":{capability.text},"key":{strict_json.dumps(key_name)}'
            f',"issued":{grant.issued},"expires":{grant.expires}}}'
        )
        return f"{payload}.{_digest(self._secrets[0], client_id, payload)}", grant

    def verify(self, text: str, client_id: str | None, keys: KeyRing, *, now: float) -> Grant:
        """The content of the grant `text` of `client_id` under one of `keys`, at `now` (epoch seconds).

        The digest is compared in constant time before anything in the payload is read. Short grants that were
        verified recently are cached; expiry and key are checked every time. Raises InvalidCredential when the
        grant is another client's, changed, expired or malformed.
        """
        open_grant = self._cached_open if len(text) <= _SHORT else self._open
        grant, key_name = open_grant(text, client_id)
        if grant.expires <= now or grant.issued + self.limit <= now:
            raise InvalidCredential("the grant has expired")
        if key_name == keys.newest.name:
            return grant
        if keys.get(key_name) is None:
            raise InvalidCredential("the grant belongs to another Ably key")
        return replace(grant, is_current=False)

    def is_fresh(self, grant: Grant, *, now: float) -> bool:
        """Whether signing `grant` again would extend it by less than a tenth of its lifetime."""
        enough = grant.expires + self.lifetime / 10
        return grant.is_current and (now + self.lifetime < enough or grant.issued + self.limit < enough)

    def _open(self, text: str, client_id: str | None) -> tuple[Grant, str]:
        """The content of a grant with a valid signature, and the name of its key."""
        payload, _, digest = text.rpartition(".")
        given = digest.encode("utf-8", "replace")
        expected = [_digest(one, client_id, payload).encode() for one in self._secrets]
        if not any(hmac.compare_digest(one, given) for one in expected):
            raise InvalidCredential("the grant was not signed here for this client, or it was changed")
        members = self._unpack(payload)
        is_encrypted = payload[:1] == _ENCRYPTED
        is_current = is_encrypted == (self._fernet is not None) and hmac.compare_digest(expected[0], given)
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
        # Only a payload with a valid signature gets here, so it has the form that `sign` gave it.
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
