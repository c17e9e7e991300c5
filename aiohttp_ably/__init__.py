"""Turn any aiohttp app into an auth server for Ably realtime."""

__version__ = "0.1.0"
