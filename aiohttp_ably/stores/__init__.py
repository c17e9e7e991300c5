"""The stores: where a strategy stores what was granted, on the server or with the client."""

from .base import CapabilityStore as CapabilityStore
from .jwt import JWTStore as JWTStore
from .memory import MemoryStore as MemoryStore
from .redis import RedisStore as RedisStore
from .session import SessionStore as SessionStore
from .signed import SignedStore as SignedStore
from .signed_grant import Grant as Grant
from .signed_grant import SignedGrants as SignedGrants

__all__ = [
    "CapabilityStore",
    "Grant",
    "JWTStore",
    "MemoryStore",
    "RedisStore",
    "SessionStore",
    "SignedGrants",
    "SignedStore",
]
