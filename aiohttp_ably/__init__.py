"""Turn any aiohttp app into an auth server for Ably realtime."""

from .auth_request import AuthRequest as AuthRequest
from .capability import Capability as Capability
from .capability import UnknownOperationWarning as UnknownOperationWarning
from .carriers import Carrier as Carrier
from .carriers import GrantCarrier as GrantCarrier
from .carriers import JWTCarrier as JWTCarrier
from .client_auth import ClientAuth as ClientAuth
from .client_auth import get_auth as get_auth
from .client_auth import requires as requires
from .errors import AuthError as AuthError
from .errors import BadRequest as BadRequest
from .errors import CapabilityDenied as CapabilityDenied
from .errors import Forbidden as Forbidden
from .errors import InvalidCapability as InvalidCapability
from .errors import InvalidClientId as InvalidClientId
from .errors import InvalidCredential as InvalidCredential
from .errors import RevocationFailed as RevocationFailed
from .errors import TooLarge as TooLarge
from .errors import Unavailable as Unavailable
from .errors import UsageError as UsageError
from .events import AuthEvent as AuthEvent
from .issuers import Issued as Issued
from .issuers import Issuer as Issuer
from .issuers import JWTIssuer as JWTIssuer
from .issuers import TokenDetailsIssuer as TokenDetailsIssuer
from .issuers import TokenRequestIssuer as TokenRequestIssuer
from .keys import ApiKey as ApiKey
from .keys import KeyRing as KeyRing
from .plugin import setup as setup
from .redis_store import RedisStore as RedisStore
from .rules import ChannelRules as ChannelRules
from .script import static_path as static_path
from .server import AblyAuth as AblyAuth
from .signed_grant import SignedGrants as SignedGrants
from .stores import CapabilityStore as CapabilityStore
from .stores import MemoryStore as MemoryStore
from .stores import SessionStore as SessionStore
from .strategies import ClientSigned as ClientSigned
from .strategies import ClientStored as ClientStored
from .strategies import ServerDetermined as ServerDetermined
from .strategies import ServerStored as ServerStored
from .strategies import Strategy as Strategy
from .tokens import TokenRequest as TokenRequest
from .tokens import sign_jwt as sign_jwt
from .tokens import sign_token_request as sign_token_request
from .tokens import verify_jwt as verify_jwt
from .tokens import verify_token_request as verify_token_request

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
    "Carrier",
    "ChannelRules",
    "ClientAuth",
    "ClientSigned",
    "ClientStored",
    "Forbidden",
    "GrantCarrier",
    "InvalidCapability",
    "InvalidClientId",
    "InvalidCredential",
    "Issued",
    "Issuer",
    "JWTCarrier",
    "JWTIssuer",
    "KeyRing",
    "MemoryStore",
    "RedisStore",
    "RevocationFailed",
    "ServerDetermined",
    "ServerStored",
    "SessionStore",
    "SignedGrants",
    "Strategy",
    "TokenDetailsIssuer",
    "TokenRequest",
    "TokenRequestIssuer",
    "TooLarge",
    "Unavailable",
    "UnknownOperationWarning",
    "UsageError",
    "get_auth",
    "requires",
    "setup",
    "sign_jwt",
    "sign_token_request",
    "static_path",
    "verify_jwt",
    "verify_token_request",
]
