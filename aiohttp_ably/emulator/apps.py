"""Apps and their API keys, and the requests of test suites that create apps."""

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
from .unverified import UNKNOWN_KEY
from .wire import Failure

EVERYTHING = Capability({"*": "*"})
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def random_name(length: int) -> str:
    """A name that cannot be guessed, of `length` letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


class Key:
    """An API key of an app, with its capability. `capability_text` is that capability as it was given."""

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
        """Whether tokens of this key can be revoked. They expire after an hour at most."""
        return self.api_key.revocable

    @property
    def text(self) -> str:
        """The API key with its secret, `<appId>.<keyId>:<secret>`."""
        return f"{self.name}:{self.api_key.secret}"

    def to_wire(self) -> dict[str, object]:
        """The key in the response to `POST /apps`."""
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
    """An app: its API keys by name, and its channels."""

    def __init__(self, app_id: str, channels: Channels) -> None:
        self.id = app_id
        self.account_id: str = random_name(6)
        self.keys: dict[str, Key] = {}
        self.channels = channels

    def add_key(self, api_key: ApiKey, capability: Capability | str | Mapping[str, Any] | None = None) -> Key:
        """Add an API key with `capability`, or with `{"*":["*"]}` when that is None.

        Raises InvalidCapability when `capability` is not a capability.
        """
        parsed = EVERYTHING if capability is None else capability
        if not isinstance(parsed, Capability):
            parsed = Capability.parse(parsed)
        text = capability if isinstance(capability, str) else parsed.text
        key = self.keys[api_key.name] = Key(self, api_key, parsed, text)
        return key

    def new_key(self, spec: Mapping[str, Any]) -> Key:
        """Add a key with a random name and secret. `spec` is its entry in the body of `POST /apps`."""
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
        """A new app without keys. Its id is `app_id`, or a random one."""
        app = App(app_id or random_name(6), Channels(self._clock, random_name(8)))
        self._apps[app.id] = app
        return app

    def provision(self, spec: Mapping[str, Any]) -> tuple[App, dict[str, object]]:
        """A new app for the body of `POST /apps`, and the body of the response.

        Raises Failure when `spec` is malformed.
        """
        app = self.create()
        try:
            keys = [app.new_key(_object(key)) for key in _list(spec, "keys") or [{}]]
            for channel in _list(spec, "channels"):
                members = [_object(member) for member in _list(_object(channel), "presence")]
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
        """Delete an app with its keys and channels."""
        self._apps.pop(app.id, None)

    def key(self, name: str) -> Key:
        """The API key of that name. Raises Failure when the app or the key does not exist."""
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
