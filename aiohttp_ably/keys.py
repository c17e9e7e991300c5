"""Ably API keys: one key, and a ring of them for rotation."""

from __future__ import annotations

import hmac
import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

_KEY = re.compile(r"(?P<app>[A-Za-z0-9_-]+)\.(?P<id>[A-Za-z0-9_-]+):(?P<secret>[\x21-\x7e]+)")


class ApiKey:
    """An Ably API key, `<appId>.<keyId>:<secret>` (RSA11). Its repr shows the name and never the secret.

    `revocable` says that the key has revocable tokens enabled at Ably, which caps their life at one hour.
    Raises ValueError when `text` is not a whole key.
    """

    __slots__ = ("_keyed", "_secret", "app_id", "name", "revocable")

    def __init__(self, text: str, *, revocable: bool = False) -> None:
        if not isinstance(text, str):
            raise TypeError(f"an Ably API key is text, got {type(text).__name__}; is ABLY_API_KEY set?")
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError(
                "not an Ably API key: expected '<appId>.<keyId>:<secret>' without spaces, whole, as the"
                " API keys page of your Ably app shows it"
            )
        self.app_id = match["app"]
        self.name = f"{match['app']}.{match['id']}"
        self.revocable = revocable
        self._secret = match["secret"]
        self._keyed = HMAC(self._secret.encode(), SHA256())

    @property
    def secret(self) -> str:
        """The part after the colon. Whoever has it can sign any token of this key."""
        return self._secret

    def mac(self, text: str) -> str:
        """Base64 of HMAC-SHA256 over the UTF-8 of `text` (RSA9g)."""
        mac = self._keyed.copy()
        mac.update(text.encode())
        return b2a_base64(mac.finalize(), newline=False).decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApiKey):
            return NotImplemented
        return self.name == other.name and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"ApiKey({self.name!r})"


class KeyRing:
    """The keys of one Ably app, newest first: the newest signs, all verify.

    To rotate, put the new key in front; take the old one out when what it signed has expired.
    Raises ValueError for no keys, or for keys of different apps.
    """

    __slots__ = ("_keys", "newest")

    newest: ApiKey
    """The key that signs."""

    def __init__(self, keys: Iterable[ApiKey | str]) -> None:
        self._keys = {key.name: key for key in map(_key, keys)}
        if not self._keys:
            raise ValueError("a KeyRing needs at least one key")
        self.newest = next(iter(self))
        if len({key.app_id for key in self}) > 1:
            raise ValueError(
                f"the keys of a KeyRing belong to one Ably app, got {', '.join(self._keys)}; for one app"
                " a tenant give `key=` an async function of the request"
            )

    @classmethod
    def of(cls, keys: KeyRing | ApiKey | str | Iterable[ApiKey | str]) -> KeyRing:
        """`keys` as a ring, whether it is one, a key, its text, or several."""
        if isinstance(keys, KeyRing):
            return keys
        return cls((keys,) if isinstance(keys, (ApiKey, str)) else keys)

    def get(self, name: object) -> ApiKey | None:
        """The key of that name (`<appId>.<keyId>`), if it is on the ring."""
        return self._keys.get(name) if isinstance(name, str) else None

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"KeyRing({list(self)!r})"


def _key(value: ApiKey | str) -> ApiKey:
    return value if isinstance(value, ApiKey) else ApiKey(value)
