"""Turn any aiohttp app into an auth server for Ably realtime."""

from .capability import Capability as Capability
from .capability import UnknownOperationWarning as UnknownOperationWarning
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
from .handlers import ClientAuth as ClientAuth
from .handlers import get_auth as get_auth
from .handlers import requires as requires
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
from .script import static_path as static_path
from .server import AblyAuth as AblyAuth
from .stores.redis import RedisStore as RedisStore
from .stores.session import CapabilityStore as CapabilityStore
from .stores.session import MemoryStore as MemoryStore
from .stores.session import SessionStore as SessionStore
from .stores.signed import Carrier as Carrier
from .stores.signed import GrantCarrier as GrantCarrier
from .stores.signed import JWTCarrier as JWTCarrier
from .stores.signed_grant import SignedGrants as SignedGrants
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
