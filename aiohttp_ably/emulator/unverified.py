"""Choices that are unverified against live Ably, in one place so that each is easy to correct.

A pair is an Ably error code and its HTTP status. Two choices are not values and so are only told here: the
mac of a TokenRequest is computed over its fields as received (a capability is not brought into canonical
form first), and a pattern `foo:*` does not match the channel `foo`, as `Capability` has it everywhere.
"""

from __future__ import annotations

Verdict = tuple[int, int]

# Token requests.
UNKNOWN_KEY: Verdict = (40400, 404)
"""A token request, or a JWT, that names an app or key which does not exist."""
KEY_NAME_MISMATCH: Verdict = (40001, 400)
"""A token request whose `keyName` is not that of the path."""
BAD_TIMESTAMP: Verdict = (40003, 400)
"""A timestamp that is missing or not a number."""
SHORT_NONCE: Verdict = (40003, 400)
"""A nonce under 16 characters."""
BAD_TTL: Verdict = (40003, 400)
"""A ttl that is not a whole number."""
CLIENT_ID_NOT_TEXT: Verdict = (40012, 400)
"""A clientId that is not a string."""
NOTHING_ASKED: Verdict = (40160, 401)
"""A token request with the capability `{}`."""

# Presented tokens.
JWT_ISSUED_AHEAD: Verdict = (40144, 401)
"""A JWT issued in the future, and how many milliseconds of that are let pass."""
JWT_ISSUED_LEEWAY = 60_000
JWT_TOO_LONG: Verdict = (40003, 400)
"""A JWT that lives longer than the key's tokens may."""
JWT_BAD_CAPABILITY: Verdict = (40000, 400)
"""A JWT whose capability is malformed."""
JWT_NOTHING_LEFT: Verdict = (40160, 401)
"""A JWT whose capability has nothing in common with its key's. `nbf` is ignored."""
OUTLIVES_EMBEDDED: Verdict = (40144, 401)
"""A JWT that expires after the Ably token inside it, and how many milliseconds of that are let pass."""
OUTLIVES_LEEWAY = 5_000

# Revocation.
NOT_REVOCABLE: Verdict = (40163, 401)
"""Revocation by a key whose tokens are not revocable."""
BAD_REVOCATION: Verdict = (40003, 400)
"""Targets or `issuedBefore` outside their limits."""
BAD_TARGET: Verdict = (40000, 400)
"""A target of a type that does not exist; reported for that target alone."""

# Realtime.
CONNECTION_ENDED: Verdict = (80008, 400)
"""A resume of a connection that was closed or is too old."""
BAD_VERSION: Verdict = (40000, 400)
"""A protocol version under 2."""
APP_DELETED: Verdict = (40400, 404)
"""What the connections of an app see when it is deleted."""
NOT_ATTACHED: Verdict = (91001, 400)
"""Presence on a channel that the connection is not attached to."""
LATE_PROMPT_FROM = 5_500
"""A credential with at least this many milliseconds left, but too few for a prompt 30 s before its end, is
prompted for at half of what is left; with fewer there is no prompt."""
STAYS_ANONYMOUS = True
"""An anonymous connection cannot become an identified one by AUTH. One that may be anybody may."""
PRESENCE_GRACE = 15_000
"""Milliseconds for which members of a dropped connection stay present."""
