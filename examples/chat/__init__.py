"""The demo: a chat with open and members-only rooms. Its page shows the work of the auth server."""

from .app import make_app as make_app

__all__ = ["make_app"]
