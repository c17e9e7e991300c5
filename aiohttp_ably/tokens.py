"""Sign and verify tokens: the TokenRequest of the Ably spec (RSA9) and the Ably JWT."""

from __future__ import annotations

import base64
import hmac
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jwt
from jwt.algorithms import HMACAlgorithm

from .capability import Capability, strict_json
from .errors import InvalidCapability, InvalidClientId, InvalidCredential, TooLarge
from .keys import ApiKey, KeyRing

__all__ = [
    "JwtClaims",
    "TokenRequest",
    "sign_jwt",
    "sign_token_request",
    "verify_jwt",
    "verify_token_request",
]

MAX_ANSWER = 128 * 1024
"""The longest answer that an Ably SDK reads, in bytes."""
_MAX_CAPABILITY = MAX_ANSWER - 4096
_SHORT = 1024  # characters

MIN_TTL = 60_000
"""The shortest lifetime that a client may request, in milliseconds."""
MAX_TTL = 24 * 3_600_000
"""The longest lifetime of a token at Ably, in milliseconds."""
MAX_REVOCABLE_TTL = 3_600_000
"""The longest lifetime for a key whose tokens are revocable, in milliseconds."""

CAPABILITY_CLAIM = "x-ably-capability"
CLIENT_ID_CLAIM = "x-ably-clientId"
REVOCATION_KEY_CLAIM = "x-ably-revocation-key"
_RESERVED_CLAIMS = frozenset(("iat", "exp", CAPABILITY_CLAIM, CLIENT_ID_CLAIM, REVOCATION_KEY_CLAIM))


def checked_client_id(client_id: str) -> str:
    """Return `client_id` when it is one that Ably accepts (RSA15).

    Raises InvalidClientId when it is empty, not a string, or has a character that is not printable: a line
    break would shift the fields of a TokenRequest's mac.
    """
    if not isinstance(client_id, str) or not client_id:
        raise InvalidClientId("a client id is a string of at least one character")
    if not client_id.isprintable():
        raise InvalidClientId(f"client id {client_id[:100]!r} has characters that are not printable")
    return client_id


def check_length(capability: Capability) -> None:
    """Raise TooLarge when `capability` does not fit the longest answer that SDKs read."""
    length = len(strict_json.quoted(capability.text).encode())
    if length > _MAX_CAPABILITY:
        raise TooLarge(
            f"the capability would take {length} bytes of an answer, and SDKs read {MAX_ANSWER}; grant fewer"
            " resources, or a pattern for many of them"
        )


def token_request_mac(
    key: ApiKey,
    ttl: object,
    capability: str | None,
    client_id: str | None,
    timestamp: object,
    nonce: str | None,
) -> str:
    """The `mac` of a TokenRequest: HMAC-SHA256 over its fields, each followed by a newline (RSA9g).

    The fields are those on the wire. An absent field counts as empty, and so does a `ttl` of 0.
    """
    return key.mac(
        f"{key.name}\n{ttl or ''}\n{capability or ''}\n{client_id or ''}\n{timestamp or ''}\n{nonce or ''}\n"
    )


@dataclass(slots=True)
class TokenRequest:
    """A signed request that a client exchanges for a token at Ably (TE1).

    `ttl` is in milliseconds, `timestamp` in milliseconds since the epoch, `capability` is JSON.
    """

    key_name: str
    capability: str
    ttl: int
    timestamp: int
    nonce: str
    mac: str
    client_id: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The members by their names on the wire, without a `clientId` when there is none."""
        return {
            "keyName": self.key_name,
            **({} if self.client_id is None else {"clientId": self.client_id}),
            "ttl": self.ttl,
            "nonce": self.nonce,
            "capability": self.capability,
            "timestamp": self.timestamp,
            "mac": self.mac,
        }

    def to_json(self) -> str:
        """The JSON of `to_dict()`. A key name and base64 have no character that JSON escapes."""
        quoted = strict_json.quoted
        capability = (_quoted if len(self.capability) <= _SHORT else quoted)(self.capability)
        client = "" if self.client_id is None else f'"clientId":{quoted(self.client_id)},'
        return (
            f'{{"keyName":"{self.key_name}",{client}"ttl":{self.ttl},"nonce":{quoted(self.nonce)},'
            f'"capability":{capability},"timestamp":{self.timestamp},"mac":"{self.mac}"}}'
        )


_quoted = lru_cache(maxsize=256)(strict_json.quoted)
"""Cached for short capabilities: clients renew with the same one again and again."""


def sign_token_request(
    key: ApiKey,
    *,
    capability: Capability,
    client_id: str | None,
    ttl: int,
    timestamp: int,
    nonce: str | None = None,
) -> TokenRequest:
    """Sign a TokenRequest (RSA9).

    Args:
        key: the API key that signs.
        capability: what the token allows.
        client_id: the client id of the token, None for a token without one.
        ttl: the lifetime in milliseconds.
        timestamp: the time of the request, in milliseconds since the epoch.
        nonce: a string of 16 characters or more that is used once; by default a random one.

    Raises:
        InvalidCapability: the capability is empty, which Ably would take for all rights of the key.
        InvalidClientId: Ably would not accept the client id.
    """
    text = _checked_text(capability, client_id)
    nonce = nonce or os.urandom(16).hex()  # 32 random characters; Ably requires at least 16 (RSA9c)
    mac = token_request_mac(key, ttl, text, client_id, timestamp, nonce)
    return TokenRequest(key.name, text, ttl, timestamp, nonce, mac, client_id)


def verify_token_request(request: Mapping[str, object], keys: KeyRing) -> ApiKey:
    """The key of `keys` that signed `request`, a TokenRequest with its names on the wire (RSA9g).

    Raises InvalidCredential when no key has its `keyName`, or when the `mac` is not that of the key.
    """
    key, mac = keys.get(request.get("keyName")), request.get("mac")
    if key is None or not isinstance(mac, str):
        raise InvalidCredential("a TokenRequest needs the keyName of a known key, and a mac")
    names = ("ttl", "capability", "timestamp", "nonce")
    fields: dict[str, Any] = {name: request.get(name) for name in names}
    expected = token_request_mac(key, client_id=request.get("clientId"), **fields)  # type: ignore[arg-type]
    if not hmac.compare_digest(expected.encode(), mac.encode("utf-8", "surrogatepass")):
        raise InvalidCredential("the mac of the TokenRequest does not match its fields")
    return key


class JwtClaims(NamedTuple):
    """The content of a verified Ably JWT. `issued` and `expires` are in seconds since the epoch."""

    key_name: str
    capability: Capability | None
    client_id: str | None
    issued: float
    expires: float
    claims: Mapping[str, object]


def sign_jwt(
    key: ApiKey,
    *,
    capability: Capability,
    client_id: str | None,
    issued: int,
    expires: int,
    revocation_key: str | None = None,
    claims: Mapping[str, object] | None = None,
) -> str:
    """Sign an Ably JWT with HS256.

    Args:
        key: the API key that signs; its name becomes the `kid`.
        capability: what the token allows.
        client_id: the client id of the token, None for a token without one.
        issued: the time of issue, in seconds since the epoch.
        expires: the time of expiry, in seconds since the epoch.
        revocation_key: names a group of tokens that can be revoked together.
        claims: further claims: channel claims (`ably.channel.<name>`), publish limits
            (`ably.limits.publish.perAttachment.maxRate.<name>`), or claims of your own.

    Raises:
        ValueError: `claims` contains a claim that this function sets.
        InvalidCapability: the capability is empty, which Ably would take for all rights of the key.
        InvalidClientId: Ably would not accept the client id.
    """
    text = _checked_text(capability, client_id)
    if taken := _RESERVED_CLAIMS & (claims or {}).keys():
        raise ValueError(f"claims= may not set {', '.join(sorted(taken))}: the auth server sets them")
    payload: dict[str, object] = {"iat": issued, "exp": expires, CAPABILITY_CLAIM: text}
    if client_id is not None:
        payload[CLIENT_ID_CLAIM] = client_id
    if revocation_key is not None:
        payload[REVOCATION_KEY_CLAIM] = revocation_key
    if claims:
        payload.update(claims)
    header = f'{{"alg":"HS256","kid":{strict_json.quoted(key.name)},"typ":"JWT"}}'
    signed = f"{base64url(header.encode())}.{base64url(strict_json.dumps(payload).encode())}"
    return f"{signed}.{base64url(base64.b64decode(key.mac(signed)))}"


def verify_jwt(token: str, keys: KeyRing, *, now: float) -> JwtClaims:
    """The content of an Ably JWT that one of `keys` signed, at the time `now` in seconds since the epoch.

    Raises InvalidCredential when the JWT is malformed, signed by another key, wrongly signed, or expired.
    """
    return check_expiry(open_jwt(token, keys), now)


def check_expiry(claims: JwtClaims, now: float) -> JwtClaims:
    """Return `claims` when the JWT has not expired at `now`; raises InvalidCredential when it has."""
    if claims.expires <= now:
        raise InvalidCredential("the JWT has expired")
    return claims


def open_jwt(token: str, keys: KeyRing) -> JwtClaims:
    """The content of an Ably JWT that one of `keys` signed, expired or not; raises as `verify_jwt` does."""
    try:
        key = keys.get(JWS.get_unverified_header(token).get("kid"))
        if key is None:
            raise InvalidCredential("the JWT names no known key in its kid")
        payload = strict_json.loads(JWS.decode(token, key.secret, algorithms=["HS256"]))
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidCredential(f"the JWT does not verify: {type(error).__name__}") from None
    if not isinstance(payload, dict):
        raise InvalidCredential("the JWT's payload is not an object")
    issued, expires = _time(payload, "iat"), _time(payload, "exp")
    text, client_id = payload.get(CAPABILITY_CLAIM), payload.get(CLIENT_ID_CLAIM)
    try:
        capability = None if text is None else Capability.from_dict(strict_json.loads(text))
    except (TypeError, ValueError):
        raise InvalidCredential(f"the JWT's {CAPABILITY_CLAIM} is not a capability") from None
    if client_id is not None and not isinstance(client_id, str):
        raise InvalidCredential(f"the JWT's {CLIENT_ID_CLAIM} is not a string")
    return JwtClaims(key.name, capability, client_id, issued, expires, payload)


class _HS256(HMACAlgorithm):
    """HS256 with the secrets that Ably issues. Older ones are shorter than PyJWT demands."""

    def check_key_length(self, key: object) -> None:
        return None


JWS = jwt.PyJWS(algorithms=[])
JWS.register_algorithm("HS256", _HS256(HMACAlgorithm.SHA256))
"""Verifies HS256 and no other algorithm."""


def base64url(data: bytes) -> str:
    """URL-safe base64 without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _checked_text(capability: Capability, client_id: str | None) -> str:
    """The JSON of `capability`, when it and the client id may be signed."""
    text = capability.text
    if text == "{}":
        raise InvalidCapability("an empty capability is not signed: Ably would grant all rights of the key")
    if client_id is not None:
        checked_client_id(client_id)
    return text


def _time(payload: Mapping[str, Any], claim: str) -> float:
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidCredential(f"the JWT has no numeric {claim}")
    return value
