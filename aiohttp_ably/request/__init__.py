"""What a client requests of the auth server, whatever dialect its SDK speaks."""

from .auth_request import GRANT_HEADER as GRANT_HEADER
from .auth_request import REAUTHORIZE_HEADER as REAUTHORIZE_HEADER
from .auth_request import AuthRequest as AuthRequest
from .auth_request import Claims as Claims
from .dialects import MAX_BODY as MAX_BODY
from .dialects import read_auth_request as read_auth_request
from .dialects import received_body as received_body
