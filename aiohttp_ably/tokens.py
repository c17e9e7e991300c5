"""Signing and verifying: the TokenRequest of the Ably spec (RSA9) and the Ably JWT."""

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

from .capability import NOTHING, Capability
from .capability import strict_json as _json
from .errors import InvalidCapability, InvalidClientId, InvalidCredential, TooLarge
from .keys import ApiKey, KeyRing

MAX_ANSWER = 128 * 1024
"""The most that an Ably SDK reads of an answer, in bytes."""
_MAX_CAPABILITY = MAX_ANSWER - 4096
_SHORT = 1024  # characters

MIN_TTL = 60_000
"""The shortest life that a client may ask for, in milliseconds."""
MAX_TTL = 24 * 3_600_000
"""The longest life Ably gives a token, in milliseconds."""
MAX_REVOCABLE_TTL = 3_600_000
"""The same for a key whose tokens are revocable."""

CAPABILITY_CLAIM = "x-ably-capability"
CLIENT_ID_CLAIM = "x-ably-clientId"
REVOCATION_KEY_CLAIM = "x-ably-revocation-key"
_OUR_CLAIMS = frozenset(("iat", "exp", CAPABILITY_CLAIM, CLIENT_ID_CLAIM, REVOCATION_KEY_CLAIM))


def checked_client_id(client_id: str) -> str:
    """`client_id` when Ably takes it (RSA15); raises InvalidClientId when it is empty or not printable text.

    A line break would shift the fields of a TokenRequest's mac, so no control character is let through.
    """
    if not isinstance(client_id, str) or not client_id:
        raise InvalidClientId("a client id is text of at least one character")
    if not client_id.isprintable():
        raise InvalidClientId(f"client id {client_id[:100]!r} holds characters that are not printable")
    return client_id


def check_length(capability: Capability) -> None:
    """Raise TooLarge for a capability that no answer to an SDK has room for."""
    length = len(_json.quoted(capability.text).encode())
    if length > _MAX_CAPABILITY:
        raise TooLarge(
            f"the capability would take {length} bytes of an answer, and SDKs read {MAX_ANSWER}; hold fewer"
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
    """The `mac` of a TokenRequest: HMAC-SHA256 over its fields, a line each, the last one too (RSA9g).

    Fields are taken as they stand on the wire; one that is absent is empty, and so is a `ttl` of 0.
    """
    return key.mac(
        f"{key.name}\n{ttl or ''}\n{capability or ''}\n{client_id or ''}\n{timestamp or ''}\n{nonce or ''}\n"
    )


@dataclass(slots=True)
class TokenRequest:
    """A signed request that a client exchanges for a token at Ably (TE1). `ttl` and `timestamp` in ms."""

    key_name: str
    capability: str
    ttl: int
    timestamp: int
    nonce: str
    mac: str
    client_id: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The members by their names on the wire, with those that are None left out."""
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
        """The JSON of `to_dict()`. The name of a key and base64 hold nothing that needs an escape there."""
        quoted = _json.quoted
        capability = (_known if len(self.capability) <= _SHORT else quoted)(self.capability)
        client = "" if self.client_id is None else f'"clientId":{quoted(self.client_id)},'
        return (
            f'{{"keyName":"{self.key_name}",{client}"ttl":{self.ttl},"nonce":{quoted(self.nonce)},'
            f'"capability":{capability},"timestamp":{self.timestamp},"mac":"{self.mac}"}}'
        )


_known = lru_cache(maxsize=256)(_json.quoted)
"""Remembered where it is short, since clients renew with the same capability again and again."""


def sign_token_request(
    key: ApiKey,
    *,
    capability: Capability,
    client_id: str | None,
    ttl: int,
    timestamp: int,
    nonce: str | None = None,
) -> TokenRequest:
    """Sign a TokenRequest (RSA9). `ttl` is in milliseconds, `timestamp` in milliseconds since the epoch.

    Raises InvalidCapability when the capability is empty, since Ably takes that for all rights of the key,
    and InvalidClientId when the client id is not one.
    """
    _check(capability, client_id)
    text = capability.text
    nonce = nonce or os.urandom(16).hex()  # 32 random characters; Ably asks for at least 16 (RSA9c)
    mac = token_request_mac(key, ttl, text, client_id, timestamp, nonce)
    return TokenRequest(key.name, text, ttl, timestamp, nonce, mac, client_id)


def verify_token_request(request: Mapping[str, object], keys: KeyRing) -> ApiKey:
    """The key that signed `request`, a TokenRequest by its names on the wire (RSA9g).

    Raises InvalidCredential when no key of the ring has its `keyName`, or when its `mac` is not of that key.
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
    """What a verified Ably JWT says. `issued` and `expires` in seconds since the epoch."""

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
    """Sign an Ably JWT under HS256, its `kid` the key's name. `issued` and `expires` in seconds.

    `claims` adds others: channel claims (`ably.channel.<name>`), publish limits
    (`ably.limits.publish.perAttachment.maxRate.<name>`), your own. Raises ValueError when they
    would replace one of ours, and what `sign_token_request` raises.
    """
    _check(capability, client_id)
    if taken := _OUR_CLAIMS & (claims or {}).keys():
        raise ValueError(f"claims= may not set {', '.join(sorted(taken))}: the auth server does")
    payload: dict[str, object] = {"iat": issued, "exp": expires, CAPABILITY_CLAIM: capability.text}
    if client_id is not None:
        payload[CLIENT_ID_CLAIM] = client_id
    if revocation_key is not None:
        payload[REVOCATION_KEY_CLAIM] = revocation_key
    if claims:
        payload.update(claims)
    header = f'{{"alg":"HS256","kid":{_json.quoted(key.name)},"typ":"JWT"}}'
    signed = f"{base64url(header.encode())}.{base64url(_json.dumps(payload).encode())}"
    return f"{signed}.{base64url(base64.b64decode(key.mac(signed)))}"


def verify_jwt(token: str, keys: KeyRing, *, now: float) -> JwtClaims:
    """What an Ably JWT of one of `keys` says at `now` (seconds since the epoch).

    Raises InvalidCredential when it is malformed, of another key, wrongly signed, or expired.
    """
    return in_time(open_jwt(token, keys), now)


def in_time(claims: JwtClaims, now: float) -> JwtClaims:
    """`claims` of a JWT that holds at `now`; raises InvalidCredential when it has expired."""
    if claims.expires <= now:
        raise InvalidCredential("the JWT has expired")
    return claims


def open_jwt(token: str, keys: KeyRing) -> JwtClaims:
    """What an Ably JWT of one of `keys` says, expired or not; otherwise as `verify_jwt`."""
    try:
        key = keys.get(JWS.get_unverified_header(token).get("kid"))
        if key is None:
            raise InvalidCredential("the JWT names no known key in its kid")
        payload = _json.loads(JWS.decode(token, key.secret, algorithms=["HS256"]))
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidCredential(f"the JWT does not verify: {type(error).__name__}") from None
    if not isinstance(payload, dict):
        raise InvalidCredential("the JWT's payload is not an object")
    issued, expires = _time(payload, "iat"), _time(payload, "exp")
    text, client_id = payload.get(CAPABILITY_CLAIM), payload.get(CLIENT_ID_CLAIM)
    try:
        capability = None if text is None else Capability.from_dict(_json.loads(text))
    except (TypeError, ValueError):
        raise InvalidCredential(f"the JWT's {CAPABILITY_CLAIM} is not a capability") from None
    if client_id is not None and not isinstance(client_id, str):
        raise InvalidCredential(f"the JWT's {CLIENT_ID_CLAIM} is not text")
    return JwtClaims(key.name, capability, client_id, issued, expires, payload)


class _HS256(HMACAlgorithm):
    """HS256 with the secrets Ably issues: older ones are short, and their length is not ours to judge."""

    def check_key_length(self, key: object) -> None:
        return None


JWS = jwt.PyJWS(algorithms=[])
JWS.register_algorithm("HS256", _HS256(HMACAlgorithm.SHA256))
"""Verifies HS256, and nothing else."""


def base64url(data: bytes) -> str:
    """URL-safe base64 without padding, as a JWT has it (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _check(capability: Capability, client_id: str | None) -> None:
    if capability is NOTHING:
        raise InvalidCapability("an empty capability is not signed: Ably would give all rights of the key")
    if client_id is not None:
        checked_client_id(client_id)


def _time(payload: Mapping[str, Any], claim: str) -> float:
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidCredential(f"the JWT has no numeric {claim}")
    return value
