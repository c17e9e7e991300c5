"""Choices of the emulator that are not verified against Ably, in one place so that each is easy to correct.

An `Answer` is an Ably error code and its HTTP status. Two choices are not values and are only listed here:
the mac of a TokenRequest is computed over the fields as they were received (the capability is not made
canonical first), and the pattern `foo:*` does not match the channel `foo`.
"""

from __future__ import annotations

Answer = tuple[int, int]

# Token requests.
UNKNOWN_KEY: Answer = (40400, 404)
"""A TokenRequest or a JWT names an app or a key that does not exist."""
KEY_NAME_MISMATCH: Answer = (40001, 400)
"""The `keyName` of a TokenRequest is not the one in the path."""
BAD_TIMESTAMP: Answer = (40003, 400)
"""The timestamp is missing or not a number."""
SHORT_NONCE: Answer = (40003, 400)
"""The nonce has fewer than 16 characters."""
BAD_TTL: Answer = (40003, 400)
"""The ttl is not a whole number."""
BAD_CLIENT_ID: Answer = (40012, 400)
"""The clientId is not a string."""
EMPTY_CAPABILITY: Answer = (40160, 401)
"""The capability of a TokenRequest is `{}`."""

# Tokens and JWTs that a client presents. The claim `nbf` of a JWT is ignored.
JWT_ISSUED_AHEAD: Answer = (40144, 401)
"""The `iat` of a JWT is in the future by more than JWT_ISSUED_LEEWAY milliseconds."""
JWT_ISSUED_LEEWAY = 60_000
JWT_TOO_LONG: Answer = (40003, 400)
"""The lifetime of a JWT is longer than that of the key's tokens may be."""
JWT_BAD_CAPABILITY: Answer = (40000, 400)
"""The capability of a JWT is malformed."""
JWT_NOTHING_LEFT: Answer = (40160, 401)
"""The capability of a JWT has nothing in common with that of its key."""
OUTLIVES_EMBEDDED: Answer = (40144, 401)
"""A JWT expires more than OUTLIVES_LEEWAY milliseconds after the Ably token that is embedded in it."""
OUTLIVES_LEEWAY = 5_000

# Revocation.
NOT_REVOCABLE: Answer = (40163, 401)
"""The tokens of the key are not revocable."""
BAD_REVOCATION: Answer = (40003, 400)
"""The targets or `issuedBefore` are outside their limits."""
BAD_TARGET: Answer = (40000, 400)
"""The type of a target does not exist. The error is reported for this target alone."""

# Realtime.
CONNECTION_ENDED: Answer = (80008, 400)
"""A client resumes a connection that was closed or is too old."""
BAD_VERSION: Answer = (40000, 400)
"""The protocol version is lower than 2."""
APP_DELETED: Answer = (40400, 404)
"""The error that ends the connections of a deleted app."""
NOT_ATTACHED: Answer = (91001, 400)
"""A connection sends PRESENCE to a channel that it is not attached to."""
MIN_LIFETIME_FOR_AUTH = 5_500
"""Milliseconds. A client whose credential expires sooner is not sent AUTH before that.

One whose credential expires in up to 31 s is sent AUTH after half of that time, others 30 s before the end.
"""
STAYS_ANONYMOUS = True
"""Whether AUTH with a client id is refused on an anonymous connection. A connection with `*` may take one."""
PRESENCE_GRACE = 15_000
"""Milliseconds for which the presence members of a dropped connection remain."""
