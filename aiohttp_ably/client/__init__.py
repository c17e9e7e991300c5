"""The client helper for ably-python: it requests capabilities and recovers from error 40160."""

from .answers import AuthServerError as AuthServerError
from .reauthorizer import Reauthorizer as Reauthorizer
from .token_source import ReauthorizerEvent as ReauthorizerEvent

__all__ = ["AuthServerError", "Reauthorizer", "ReauthorizerEvent"]
