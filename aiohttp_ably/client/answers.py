"""Read the responses of an auth server: a token, or the error that it sent in place of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import jwt

from ..capability import NOTHING, Capability
from ..errors import CapabilityDenied, InvalidCapability

if TYPE_CHECKING:

    class AblyException(Exception):
        """The exception of the SDK, which has no types of its own."""

        message: str
        status_code: int
        code: int

        def __init__(self, message: str, status_code: int, code: int) -> None: ...
else:
    from ably import AblyException

_NO_TOKEN = 40170  # Ably's "error from client token callback"


class AuthServerError(AblyException):
    """The auth server gave no token, or one that does not allow the requested capability.

    `message`, `code` and `status_code` are those that the auth server sent, as on every AblyException.
    """


def missing_capability_error(missing: Capability) -> AuthServerError:
    """The error for a token that was issued and does not allow `missing`."""
    return AuthServerError(
        f"the issued token does not allow {missing.text[:400]}; its API key may not allow it",
        CapabilityDenied.status,
        CapabilityDenied.code,
    )


def is_denial(error: Exception) -> bool:
    """Whether `error` is 40160: a capability does not allow an operation, or the auth server denies one."""
    return isinstance(error, AblyException) and error.code == CapabilityDenied.code


@dataclass(frozen=True)
class Answer:
    """The TokenRequest or TokenDetails that the auth server sent, with its capability and client id."""

    members: Mapping[str, Any]
    capability: Capability
    client_id: str | None

    @property
    def jwt(self) -> str | None:
        """The token, if it is a JWT."""
        token = self.members.get("token", "")
        return token if token.count(".") == 2 else None


class RaisingTokenDetails(dict[str, Any]):
    """A result for `auth_callback` that raises `error` when ably-python reads it as TokenDetails.

    ably-python replaces an exception raised by the callback with error 40170 and status 401, and connects
    again and again. A 403 must stop it (RSA4d). It reads the callback's result outside that `except`, so an
    exception raised there keeps its status.
    """

    def __init__(self, error: AuthServerError) -> None:
        super().__init__(issued=None)  # ably-python takes a dict with "issued" for TokenDetails
        self._error = error

    def get(self, *_name: object) -> NoReturn:
        raise self._error


def read_answer(response: aiohttp.ClientResponse, text: str) -> Answer:
    """The token in `response`, whose body is `text`. Raises AuthServerError for a response without one."""
    content_type = response.content_type
    document = _parse_json(text) if content_type == "application/json" else None
    if not response.ok:
        raise _error_in(response, document)
    if content_type in ("application/jwt", "text/plain"):
        document = {"token": text.strip()}
    if not isinstance(document, dict) or not (document.get("token") or document.get("keyName")):
        raise AuthServerError(f"the auth server answered with {content_type} and no token", 401, _NO_TOKEN)
    if "token" in document and "issued" not in document:
        # Without these members ably-python takes the token for one without a client id, and refuses the next.
        document = {**_token_details(document["token"]), **document}
    try:
        capability = Capability.parse(document.get("capability") or {})
    except InvalidCapability:
        capability = NOTHING
    return Answer(document, capability, document.get("clientId"))


def _error_in(response: aiohttp.ClientResponse, document: object) -> AuthServerError:
    error = document.get("error") if isinstance(document, dict) else None
    members = error if isinstance(error, dict) else {}
    headers = response.headers
    default = f"the auth server answered with {response.status}"
    message = members.get("message") or headers.get("X-Ably-ErrorMessage") or default
    code = members.get("code") or headers.get("X-Ably-ErrorCode") or response.status * 100
    return AuthServerError(message, response.status, int(code))


def _token_details(token: str) -> dict[str, Any]:
    """The members of TokenDetails that the claims of a JWT give."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return {"issued": None}
    details = {
        "issued": claims.get("iat", 0) * 1000,
        "expires": claims.get("exp", 0) * 1000,
        "capability": claims.get("x-ably-capability"),
        "clientId": claims.get("x-ably-clientId"),
    }
    return {name: value for name, value in details.items() if value is not None}


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
