"""The refusals: every way in which an auth server says no, and how that looks on the wire.

    AuthError                     an answer of the auth server; carries code, status and message
    ├── BadRequest                400 · 40000   malformed: sent again unchanged, it fails again
    │   ├── InvalidCapability     400 · 40000   not a capability, or not one that can be computed
    │   └── InvalidClientId       400 · 40012   not a client id, or two different ones
    ├── TooLarge                  413 · 40009   over a limit; what was held is kept
    ├── CapabilityDenied          401 · 40160   the asked change is denied; what was held is kept
    ├── Forbidden                 403 · 40300   no for good: an SDK stops asking
    ├── Unavailable               503 · 50300   a part we depend on failed: an SDK asks again
    │   └── RevocationFailed      503 · 50300   Ably did not revoke every token it was asked to
    └── InvalidCredential         401 · 40101   a mac, signature, grant or token that does not verify

UsageError stands beside them: a mistake in the app, not an answer to its client.

Codes are those of the Ably error catalogue; 403 with 40300 is what makes an SDK give up (RSA4d).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

HELP = "https://help.ably.io/error/"
_HEADER_LIMIT = 512


class AuthError(Exception):
    """An answer other than a token.

    `code` is the Ably error code and `status` the HTTP status; `message` says what was wrong and what
    would be right, and never holds a secret.
    """

    code: ClassVar[int] = 50000
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(AuthError, ValueError):
    """What was sent is malformed."""

    code = 40000
    status = 400


class InvalidCapability(BadRequest):
    """What was given is not a capability, or the result cannot be expressed as one."""


class InvalidClientId(BadRequest):
    """What was given is not a client id Ably accepts."""

    code = 40012


class TooLarge(AuthError):
    """What was sent, or what would have to be kept, is over a limit."""

    code = 40009
    status = 413


class CapabilityDenied(AuthError):
    """A change of capability is denied while the client keeps what it has.

    SDKs report it from `authorize()` and keep their connection (RSA4c).
    """

    code = 40160
    status = 401


class Forbidden(AuthError):
    """Nobody should try again with the same credentials: signed out, foreign origin, another's client id."""

    code = 40300
    status = 403


class Unavailable(AuthError):
    """Something this answer depends on failed or took too long. Never a verdict on the client."""

    code = 50300
    status = 503


class RevocationFailed(Unavailable):
    """Ably did not revoke all that it was asked to, so some clients were not told of a change.

    `failed` says for each target, such as `clientId:alice`, why; `revoked` for the others from when on, in
    milliseconds since the epoch. What was changed in a store before stays changed.
    """

    def __init__(self, failed: Mapping[str, str], revoked: Mapping[str, int]) -> None:
        target, why = next(iter(failed.items()))
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        super().__init__(f"tokens of {target[:200]!r}{more} were not revoked: {why}")
        self.failed = failed
        self.revoked = revoked


class UsageError(TypeError):
    """The app uses the plugin in a way that cannot work. A bug to mend: no answer to a client says it."""


class InvalidCredential(AuthError):
    """A mac, signature, grant or token that does not verify, or is over its time."""

    code = 40101
    status = 401


def error_body(code: int, status: int, message: str) -> bytes:
    """The JSON body every Ably SDK reads: `{"error": {message, code, statusCode, href}}` (RSA4e, TI1)."""
    error = {"message": message, "code": code, "statusCode": status, "href": f"{HELP}{code}"}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def error_headers(code: int, message: str) -> Mapping[str, str]:
    """The headers that browsers read in place of the body; safe to send whatever `message` holds."""
    printable = message.encode("unicode_escape").decode("ascii")
    return {"X-Ably-ErrorCode": str(code), "X-Ably-ErrorMessage": printable[:_HEADER_LIMIT]}
