"""Apps and their keys, as the account's dashboard would hold them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from ..capability import Capability
from ..errors import AuthError
from ..keys import ApiKey
from .channels import Channels
from .clock import Clock
from .failure import Failure
from .unverified import UNKNOWN_KEY

EVERYTHING = Capability({"*": "*"})
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def random_name(length: int) -> str:
    """Letters and digits that nobody guesses."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


class Key:
    """An API key of an app, and what it may do. `capability_text` is the capability as it was given."""

    def __init__(self, app: App, api_key: ApiKey, capability: Capability, capability_text: str) -> None:
        self.app = app
        self.api_key = api_key
        self.capability = capability
        self.capability_text = capability_text

    @property
    def name(self) -> str:
        """`<appId>.<keyId>`."""
        return self.api_key.name

    @property
    def revocable(self) -> bool:
        """Whether tokens of this key can be revoked; they live an hour at most."""
        return self.api_key.revocable

    @property
    def text(self) -> str:
        """The whole key with its secret."""
        return f"{self.name}:{self.api_key.secret}"

    def to_wire(self) -> dict[str, object]:
        """The key as the provisioning API tells it."""
        return {
            "id": self.name.partition(".")[2],
            "value": self.api_key.secret,
            "keyName": self.name,
            "keySecret": self.api_key.secret,
            "keyStr": self.text,
            "capability": self.capability_text,
            "revocableTokens": self.revocable,
            "status": 0,
            "expires": 0,
        }

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {self.capability_text})"


class App:
    """An app: its keys by name, and its channels."""

    def __init__(self, app_id: str, channels: Channels) -> None:
        self.id = app_id
        self.account_id = random_name(6)
        self.keys: dict[str, Key] = {}
        self.channels = channels

    def add_key(self, api_key: ApiKey, capability: Capability | str | Mapping[str, Any] | None = None) -> Key:
        """Add `api_key`, allowed `capability`: everything when that is None.

        Raises InvalidCapability when it is not a capability.
        """
        parsed = EVERYTHING if capability is None else capability
        if not isinstance(parsed, Capability):
            parsed = Capability.parse(parsed)
        text = capability if isinstance(capability, str) else parsed.text
        key = self.keys[api_key.name] = Key(self, api_key, parsed, text)
        return key

    def new_key(self, spec: Mapping[str, Any]) -> Key:
        """Add a key with a new name and secret, by a key of a provisioning request."""
        api_key = ApiKey(
            f"{self.id}.{random_name(6)}:{random_name(43)}", revocable=spec.get("revocableTokens") is True
        )
        return self.add_key(api_key, spec.get("capability"))

    def __repr__(self) -> str:
        return f"App({self.id!r}, keys={list(self.keys)})"


class Apps(Mapping[str, App]):
    """All apps by id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._apps: dict[str, App] = {}

    def create(self, app_id: str | None = None) -> App:
        """A new app without keys; with an id of its own when none is given."""
        app = App(app_id or random_name(6), Channels(self._clock, random_name(8)))
        self._apps[app.id] = app
        return app

    def provision(self, spec: Mapping[str, Any]) -> tuple[App, dict[str, object]]:
        """A new app by a provisioning request, and what to answer. Raises Failure when that is malformed."""
        app = self.create()
        try:
            keys = [app.new_key(_object(key)) for key in _list(spec, "keys") or [{}]]
            for channel in _list(spec, "channels"):
                members = [_object(one) for one in _list(_object(channel), "presence")]
                app.channels.get(str(channel.get("name"))).presence.preload(members)
        except AuthError as error:
            del self._apps[app.id]
            raise Failure.of(error) from None
        except Failure:
            del self._apps[app.id]
            raise
        return app, {
            "accountId": app.account_id,
            "appId": app.id,
            "keys": [key.to_wire() for key in keys],
            "namespaces": _list(spec, "namespaces"),
        }

    def delete(self, app: App) -> None:
        """Forget an app with everything in it."""
        self._apps.pop(app.id, None)

    def key(self, name: str) -> Key:
        """The key of that name. Raises Failure when its app, or the key, does not exist."""
        app_id = name.partition(".")[0]
        if (app := self._apps.get(app_id)) is None:
            raise Failure(*UNKNOWN_KEY, f"no application with id {app_id[:100]!r}")
        if (key := app.keys.get(name)) is None:
            raise Failure(*UNKNOWN_KEY, f"no key named {name[:100]!r} in application {app_id!r}")
        return key

    def __getitem__(self, app_id: str) -> App:
        return self._apps[app_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._apps)

    def __len__(self) -> int:
        return len(self._apps)


def _list(spec: Mapping[str, Any], name: str) -> list[Any]:
    value = spec.get(name, [])
    if not isinstance(value, list):
        raise Failure(40000, 400, f"{name} must be a list, got {json.dumps(value)[:100]}")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Failure(40000, 400, f"expected an object, got {json.dumps(value)[:100]}")
    return value
