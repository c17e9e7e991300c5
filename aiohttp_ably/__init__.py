"""Turn any aiohttp app into an auth server for Ably realtime."""

from .capability import Capability as Capability
from .errors import AuthError as AuthError
from .errors import BadRequest as BadRequest
from .errors import CapabilityDenied as CapabilityDenied
from .errors import Forbidden as Forbidden
from .errors import InvalidCapability as InvalidCapability
from .errors import RevocationFailed as RevocationFailed
from .errors import TooLarge as TooLarge
from .errors import Unavailable as Unavailable
from .errors import UsageError as UsageError
from .events import AuthEvent as AuthEvent
from .handlers import ClientAuth as ClientAuth
from .handlers import get_auth as get_auth
from .handlers import requires as requires
from .http import static_path as static_path
from .issuers import Issued as Issued
from .issuers import Issuer as Issuer
from .issuers import JWTIssuer as JWTIssuer
from .issuers import TokenDetailsIssuer as TokenDetailsIssuer
from .issuers import TokenRequestIssuer as TokenRequestIssuer
from .keys import ApiKey as ApiKey
from .keys import KeyRing as KeyRing
from .plugin import setup as setup
from .request import AuthRequest as AuthRequest
from .rules import ChannelRules as ChannelRules
from .server import AblyAuth as AblyAuth
from .stores import CapabilityStore as CapabilityStore
from .stores import JWTStore as JWTStore
from .stores import MemoryStore as MemoryStore
from .stores import RedisStore as RedisStore
from .stores import SessionStore as SessionStore
from .stores import SignedStore as SignedStore
from .strategies import ClientSigned as ClientSigned
from .strategies import ClientStored as ClientStored
from .strategies import Decision as Decision
from .strategies import ServerDetermined as ServerDetermined
from .strategies import ServerStored as ServerStored
from .strategies import Strategy as Strategy

__version__ = "0.1.0"

__all__ = [
    "AblyAuth",
    "ApiKey",
    "AuthError",
    "AuthEvent",
    "AuthRequest",
    "BadRequest",
    "Capability",
    "CapabilityDenied",
    "CapabilityStore",
    "ChannelRules",
    "ClientAuth",
    "ClientSigned",
    "ClientStored",
    "Decision",
    "Forbidden",
    "InvalidCapability",
    "Issued",
    "Issuer",
    "JWTIssuer",
    "JWTStore",
    "KeyRing",
    "MemoryStore",
    "RedisStore",
    "RevocationFailed",
    "ServerDetermined",
    "ServerStored",
    "SessionStore",
    "SignedStore",
    "Strategy",
    "TokenDetailsIssuer",
    "TokenRequestIssuer",
    "TooLarge",
    "Unavailable",
    "UsageError",
    "get_auth",
    "requires",
    "setup",
    "static_path",
]
