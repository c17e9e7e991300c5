"""The client helper for ably-python: request what is needed, and recover from 40160."""

from .reauthorizer import AuthServerError as AuthServerError
from .reauthorizer import Reauthorizer as Reauthorizer
from .reauthorizer import ReauthorizerEvent as ReauthorizerEvent
