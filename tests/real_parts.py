"""The programs that some tests need: Node.js, ably-js, Chromium and redis-server.

`python tests/real_parts.py` installs them. Tests of a missing program are skipped with the reason, and fail when
CI=true.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

JS = Path(__file__).parent / "js"
CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PACKAGES = {"node": ["nodejs"], "npm": ["npm"], "chromium": ["chromium"], "redis-server": ["redis-server"]}


def require_node() -> str:
    """The path of Node.js."""
    return _program("node")


def require_ably_js() -> Path:
    """The folder from which Node.js finds the `ably` package."""
    require_node()
    if not (JS / "node_modules" / "ably" / "package.json").exists():
        _missing("the npm package ably is not installed; run `npm install` in tests/js")
    return JS


def require_chromium() -> str:
    """The path of Chromium, for Playwright's `executable_path`."""
    return _program("chromium")


def require_redis_server() -> str:
    """The path of redis-server."""
    return _program("redis-server")


def _program(name: str) -> str:
    return shutil.which(name) or _missing(f"{name} is not installed")


def _missing(reason: str) -> NoReturn:
    import pytest

    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def install() -> None:
    """Install missing programs: Debian packages when run as root, and npm packages."""
    missing = [name for name in _PACKAGES if not shutil.which(name)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [package for name in missing for package in _PACKAGES[name]]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-q"], env=environment, check=False)
        subprocess.run(["apt-get", "install", "-y", "-q", *packages], env=environment, check=False)
    if npm := shutil.which("npm"):
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        if not (JS / "node_modules" / "ably").exists():
            subprocess.run([npm, "install", *options], cwd=JS, check=False)


if __name__ == "__main__":
    install()
