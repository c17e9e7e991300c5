"""The rooms of the package, from the bottom up, and what each may import."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import aiohttp_ably

PACKAGE = Path(aiohttp_ably.__file__).parent
MAY_IMPORT = {
    "static": "",
    "errors": "",
    "keys": "",
    "capability": "errors",
    "tokens": "errors keys capability",
    "_callbacks": "errors",
    "request": "errors keys capability tokens",
    "stores": "errors keys capability tokens request",
    "rules": "capability _callbacks request",
    "ably_api": "errors keys tokens _callbacks",
    "issuers": "errors capability tokens _callbacks request ably_api",
    "events": "errors capability _callbacks request",
    "strategies": "errors capability tokens _callbacks request stores",
    "http": "errors capability request",
    "server": "errors keys capability tokens _callbacks request ably_api issuers events strategies http",
    "handlers": "errors capability request rules http server",
    "plugin": "errors keys issuers strategies http server handlers",
    "__init__": "errors keys capability request stores rules issuers events strategies http server handlers plugin",
    "client": "errors capability request",
    "emulator": "errors keys capability tokens",
    "testing": "errors keys capability tokens emulator",
    "pytest_plugin": "emulator",
    "__main__": "errors keys capability ably_api emulator",
}
"""Each room, a file or folder of the package, with the rooms below it that it may import."""


def imports(file: Path) -> set[str]:
    """The rooms that `file` imports, under TYPE_CHECKING or in a function too."""
    here = [PACKAGE.name, *file.relative_to(PACKAGE).with_suffix("").parts]
    modules: list[list[str]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [*(here[: -node.level] if node.level else []), *(node.module or "").split(".")]
            start = [part for part in start if part]
            modules += [[*start, alias.name] for alias in node.names]
    names = {tuple(module[1:2]) for module in modules if module[0] == PACKAGE.name}
    return {name[0] if name and name[0] in MAY_IMPORT else "__init__" for name in names}


def rooms() -> dict[str, set[str]]:
    """What each room of the package imports."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.iterdir():
        if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__"):
            files = path.rglob("*.py") if path.is_dir() else [path]
            found[path.stem] = set[str]().union(*map(imports, files)) - {path.stem}
    return found


def test_each_room_imports_only_what_the_table_allows() -> None:
    found = rooms()
    assert found.keys() == MAY_IMPORT.keys()
    for room, imported in found.items():
        assert imported <= set(MAY_IMPORT[room].split()), room


def test_imports_go_down_so_that_there_is_no_circle() -> None:
    order = list(MAY_IMPORT)
    for room, imported in rooms().items():
        assert all(order.index(one) < order.index(room) for one in imported), room


def test_the_package_has_few_rooms_and_short_chains_of_imports() -> None:
    found = rooms()

    @cache
    def chain(room: str) -> int:
        return 1 + max(map(chain, found[room]), default=0)

    assert len(found) <= 24
    assert max(map(chain, found)) <= 10


def test_only_the_command_and_the_test_helpers_import_the_emulator() -> None:
    found = rooms()
    assert found["emulator"] <= {"capability", "errors", "keys", "tokens"}
    assert {room for room in found if "emulator" in found[room]} == {"__main__", "testing", "pytest_plugin"}
