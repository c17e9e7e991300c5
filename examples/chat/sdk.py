"""The source of ably-js for the page: the npm package when it is installed, else Ably's CDN."""

from __future__ import annotations

from pathlib import Path

CDN = "https://cdn.ably.com/lib/ably.min-2.js"
_REPOSITORY = Path(__file__).parents[2]


def installed_sdk() -> Path | None:
    """The script in the npm package `ably`; None when it is not installed."""
    for folder in (Path.cwd(), _REPOSITORY, _REPOSITORY / "tests" / "js"):
        script = folder / "node_modules" / "ably" / "build" / "ably.min.js"
        if script.is_file():
            return script
    return None
