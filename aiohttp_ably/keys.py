"""Ably API keys: one key, and a ring of keys for rotation."""

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

    Args:
        text: the whole key, as the API keys page of your Ably app shows it.
        revocable: whether "Revocable tokens" is turned on for the key at Ably, which limits the lifetime of
            its tokens to one hour.

    Raises:
        TypeError: `text` is not a string.
        ValueError: `text` is not a whole key.
    """

    __slots__ = ("_keyed", "_secret", "app_id", "name", "revocable")

    def __init__(self, text: str, *, revocable: bool = False) -> None:
        if not isinstance(text, str):
            raise TypeError(f"an Ably API key is a string, got {type(text).__name__}")
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError(
                "not an Ably API key: expected '<appId>.<keyId>:<secret>' without spaces, whole, as the"
                " API keys page of your Ably app shows it"
            )
        self.app_id: str = match["app"]
        self.name: str = f"{match['app']}.{match['id']}"
        self.revocable: bool = revocable
        self._secret = match["secret"]
        self._keyed = HMAC(self._secret.encode(), SHA256())

    @property
    def secret(self) -> str:
        """The part after the colon. Whoever knows it can sign any token of this key."""
        return self._secret

    def mac(self, text: str) -> str:
        """The HMAC-SHA256 over the UTF-8 of `text`, in base64 (RSA9g)."""
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
    """The keys of one Ably app, newest first. The newest signs, all verify.

    To rotate, put the new key in front. Take the old one out when everything that it signed has expired.

    Raises:
        TypeError: a key is neither an ApiKey nor a string.
        ValueError: there is no key, two have the same name, or they belong to different apps.
    """

    __slots__ = ("_keys", "names", "newest")

    newest: ApiKey
    """The key that signs."""
    names: tuple[str, ...]
    """The names of the keys, newest first."""

    def __init__(self, keys: Iterable[ApiKey | str]) -> None:
        ring = [key if isinstance(key, ApiKey) else ApiKey(key) for key in keys]
        self._keys = {key.name: key for key in ring}
        self.names = tuple(self._keys)
        if not ring:
            raise ValueError("a KeyRing needs at least one key")
        if len(self._keys) < len(ring):
            raise ValueError(
                f"two keys of a KeyRing have one name, got {', '.join(key.name for key in ring)}"
            )
        self.newest = next(iter(self))
        if len({key.app_id for key in self}) > 1:
            raise ValueError(
                f"the keys of a KeyRing belong to one Ably app, got {', '.join(self._keys)}; for one app"
                " a tenant give `key=` an async function of the request"
            )

    @classmethod
    def of(cls, keys: Keys) -> KeyRing:
        """A KeyRing of `keys`: one key or several, each an ApiKey or a string.

        Raises what ApiKey and KeyRing raise, and TypeError for None.
        """
        if isinstance(keys, KeyRing):
            return keys
        if keys is None or not isinstance(keys, (ApiKey, str, Iterable)):
            raise TypeError(
                f"an Ably API key is a string, got {keys!r}; set the environment variable ABLY_API_KEY, or"
                " pass a key such as 'appId.keyId:secret'"
            )
        return cls((keys,) if isinstance(keys, (ApiKey, str)) else keys)

    def get(self, name: object) -> ApiKey | None:
        """The key of that name (`<appId>.<keyId>`); None when the ring has no such key."""
        return self._keys.get(name) if isinstance(name, str) else None

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"KeyRing({list(self)!r})"


Keys = str | ApiKey | KeyRing | Iterable[str | ApiKey]
"""What may be given for the keys of an app."""
