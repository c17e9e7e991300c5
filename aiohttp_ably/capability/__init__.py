"""What a token allows: capabilities, resource names and operations, under the rules that Ably applies."""

from .capability import ALL as ALL
from .capability import MAX_RESOURCES as MAX_RESOURCES
from .capability import NOTHING as NOTHING
from .capability import Capability as Capability
from .capability import Operations as Operations
from .capability import UnknownOperationWarning as UnknownOperationWarning
