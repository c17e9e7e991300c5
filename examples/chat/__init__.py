"""A small chat with open and members-only rooms, whose page shows what the auth server does for it."""

from .app import make_app as make_app

__all__ = ["make_app"]
