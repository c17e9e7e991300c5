"""The errors: every answer of the auth server other than a token, and how SDKs read it.

    AuthError                     an error that is sent to the client, with code, status and message
    ├── BadRequest                400 · 40000   malformed: the same request fails again
    │   ├── InvalidCapability     400 · 40000   not a capability, or the result cannot be expressed as one
    │   └── InvalidClientId       400 · 40012   not a client id, or two different ones
    ├── TooLarge                  413 · 40009   over a limit; what was granted before is kept
    ├── CapabilityDenied          401 · 40160   the requested change is denied; what was granted is kept
    ├── Forbidden                 403 · 40300   denied for good: an SDK stops trying
    ├── Unavailable               503 · 50300   `identify`, `authorize`, the store or Ably failed: SDKs retry
    │   └── RevocationFailed      503 · 50300   Ably did not revoke every token
    └── InvalidCredential         401 · 40101   a mac, signature, grant or token that does not verify

    UsageError                    a mistake in the app's code; the client gets 503 without details
    UnknownOperationWarning       an operation in the app's code that Ably does not know

The codes are those of Ably's error catalogue. 403 with 40300 makes an SDK give up (RSA4d).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "AuthError",
    "BadRequest",
    "CapabilityDenied",
    "Forbidden",
    "InvalidCapability",
    "InvalidClientId",
    "InvalidCredential",
    "RevocationFailed",
    "TooLarge",
    "Unavailable",
    "UnknownOperationWarning",
    "UsageError",
]

HELP = "https://help.ably.io/error/"
_HEADER_LIMIT = 512


class AuthError(Exception):
    """An answer other than a token.

    `code` is the Ably error code and `status` the HTTP status. `message` says what was wrong and what would
    be right; it never contains a secret.
    """

    code: ClassVar[int] = 50000
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(AuthError, ValueError):
    """The request is malformed."""

    code = 40000
    status = 400


class InvalidCapability(BadRequest):
    """The value is not a capability, or the result cannot be expressed as one."""


class InvalidClientId(BadRequest):
    """The value is not a client id that Ably accepts."""

    code = 40012


class TooLarge(AuthError):
    """The request, or what would have to be stored or issued, is over a limit."""

    code = 40009
    status = 413


class CapabilityDenied(AuthError):
    """A requested change of the capability is denied; the client keeps what was granted before.

    SDKs report it from `authorize()` and keep their connection (RSA4c).
    """

    code = 40160
    status = 401


class Forbidden(AuthError):
    """Denied for good: not signed in, a foreign origin, another client's id, or nothing granted."""

    code = 40300
    status = 403


class Unavailable(AuthError):
    """`identify`, `authorize`, the store or Ably failed or took too long."""

    code = 50300
    status = 503


class RevocationFailed(Unavailable):
    """Ably did not revoke every token, so some clients did not learn of a change.

    `failed` maps each target that failed, such as `clientId:alice`, to the reason. `revoked` maps each other
    target to the time from which its tokens are refused, in milliseconds since the epoch. A store that was
    changed before stays changed.
    """

    def __init__(self, failed: Mapping[str, str], revoked: Mapping[str, int]) -> None:
        target, why = next(iter(failed.items()))
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        super().__init__(f"tokens of {target[:200]!r}{more} were not revoked: {why}")
        self.failed = failed
        self.revoked = revoked


class UsageError(RuntimeError):
    """The app uses the plugin in a way that cannot work. The message tells the developer what to change."""


class UnknownOperationWarning(UserWarning):
    """The app's code names an operation that Ably does not know."""


class InvalidCredential(AuthError):
    """A mac, signature, grant or token that does not verify or has expired."""

    code = 40101
    status = 401


def error_body(code: int, status: int, message: str) -> bytes:
    """The JSON body of an error for every Ably SDK: message, code, statusCode and href (RSA4e, TI1)."""
    error = {"message": message, "code": code, "statusCode": status, "href": f"{HELP}{code}"}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def error_headers(code: int, message: str) -> Mapping[str, str]:
    """The headers that ably-js reads in browsers, where it does not read the body.

    `message` may contain any character: it is escaped and cut to 512 characters.
    """
    printable = message.encode("unicode_escape").decode("ascii")
    return {"X-Ably-ErrorCode": str(code), "X-Ably-ErrorMessage": printable[:_HEADER_LIMIT]}
