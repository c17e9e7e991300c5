"""Capabilities: which operations are allowed on which resources, under the rules that Ably applies."""

from .capability import MAX_RESOURCES as MAX_RESOURCES
from .capability import NOTHING as NOTHING
from .capability import Capability as Capability
from .capability import CapabilityLike as CapabilityLike
from .capability import Operations as Operations
from .operations import ALL as ALL
from .operations import OPERATIONS as OPERATIONS
from .operations import suggestion as suggestion
from .resources import is_plain as is_plain
from .resources import without_params as without_params

__all__ = ["MAX_RESOURCES", "NOTHING", "OPERATIONS", "Capability", "CapabilityLike", "Operations", "is_plain"]
