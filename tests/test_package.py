"""The package as users install it: built, checked, and used in an empty environment."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from apps import KEY

import aiohttp_ably

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lowest_versions_are_the_lower_bounds_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    test = config["options.extras_require"]["test"].strip().splitlines()
    bounds = [
        *config["options"]["install_requires"].strip().splitlines(),
        *config["options.extras_require"]["redis"].strip().splitlines(),
        *(line for line in test if line.split()[0] in ("pytest", "pytest-aiohttp", "hypothesis")),
    ]
    assert all(re.fullmatch(r"[\w-]+ >=[\d.]+(;.*)?", bound) for bound in bounds)
    _, *lowest = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    assert sorted(lowest) == sorted(bound.replace(" >=", "==") for bound in bounds)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from it."""
    pytest.importorskip("build", reason="build is not installed; pip install 'aiohttp-ably[test]'")
    folder = tmp_path_factory.mktemp("dist")
    # Only the files that git tracks: no other file of a checkout may get into the package.
    files = run("git", "ls-files", "--cached").split()
    source = tmp_path_factory.mktemp("source")
    for name in files:
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_twine_accepts_the_package(built: Path) -> None:
    pytest.importorskip("twine", reason="twine is not installed; pip install 'aiohttp-ably[test]'")
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(built.iterdir()))


def test_the_sdist_has_all_tracked_files_and_no_others(built: Path) -> None:
    """It has all files that the tests need, and no untracked ones."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {name for name in run("git", "ls-files", "--cached").split() if (ROOT / name).is_file()}
    folders = ("aiohttp_ably/", "tests/", "docs/", "examples/", "benchmarks/")
    wanted = {name for name in tracked if name.startswith(folders)}
    wanted |= {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "setup.cfg", "pyproject.toml"}
    assert wanted - names == set()
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]


def test_the_wheel_has_only_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"aiohttp_ably"}
    assert {
        "aiohttp_ably/py.typed",
        "aiohttp_ably/static/reauth.js",
        "aiohttp_ably/static/reauth.d.ts",
    } <= set(names)
    assert f"aiohttp_ably-{aiohttp_ably.__version__}" in wheel.name


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with only the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-compile", wheel)
    return folder / "bin" / "python"


@pytest.fixture
def app(python: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of the quick start of the README, which is running."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    # On a free port, and without a request for Ably's time.
    code = code.replace("web.run_app(app)", 'web.run_app(app, host="127.0.0.1", port=0, print=print_url)')
    assert "print_url" in code
    code = code.replace("    strategy=", "    clock_sync=None,\n    strategy=", 1)
    helper = "def print_url(*words, **options):\n    print(*words, flush=True)\n\n\n"
    (tmp_path / "app.py").write_text(helper + code)
    with subprocess.Popen(
        [python, "app.py"],
        cwd=tmp_path,
        env={**os.environ, "ABLY_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = ""
        while not (found := re.search(r"http://[\d.]+:\d+", output)):
            line = process.stdout.readline()
            assert line, output
            output += line
        yield found[0]
        process.terminate()


def test_the_quick_start_runs_in_an_empty_environment(app: str) -> None:
    (path,) = re.findall(r"curl -H 'X-User: alice' 'http://localhost:8080(\S+)'", README)
    request = urllib.request.Request(app + path, headers={"X-User": "alice"})
    with urllib.request.urlopen(request) as response:
        answer = json.loads(response.read())
    assert answer["keyName"] == KEY.partition(":")[0]
    assert json.loads(answer["capability"]) == {"lobby": ["subscribe"], "room:tea": ["subscribe"]}


def test_optional_dependencies_are_not_imported(python: Path) -> None:
    loaded = run(python, "-c", "import sys, aiohttp_ably; print(*sys.modules)").split()
    assert not {"ably", "redis", "httpx", "msgpack", "pytest", "aiohttp_ably.emulator"} & set(loaded)


def test_the_readme_names_the_footprint(python: Path) -> None:
    """It names numbers of the right size. The exact ones change with the versions of the dependencies."""
    ((packages, megabytes),) = re.findall(r"(\d+) packages, (\d+) MB", README)
    folder = python.parent.parent
    listed = json.loads(run(sys.executable, "-m", "pip", "--python", folder, "list", "--format=json"))
    files = [path for path in (folder / "lib").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(listed) - 1 <= int(packages) * 1.25
    assert sum(path.stat().st_size for path in files) / 1e6 <= int(megabytes) * 1.25
