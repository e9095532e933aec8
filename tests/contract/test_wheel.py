"""The wheel holds what users need and nothing else, and works without any extra."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "numpy",
    "httpx2",
    "yaml",
    "jinja2",
    "uvicorn",
    "httptools",
    "uvloop",
    "msgspec",
    "playwright",
    "locust",
    "gevent",
    "starlette",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=180)
    (built,) = folder.glob("rolloutobs-*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and what it requires without extras: what a plain install would give."""
    folder = tmp_path_factory.mktemp("bare")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for name in sorted(_required("rolloutobs")):
        for file in importlib.metadata.files(name) or ():
            top = file.parts[0]
            # Namespace packages (opentelemetry) are shared by several distributions: link file by file.
            if top != ".." and file.suffix not in (".pyc", ".pth"):
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(Path(str(file.locate())))
    return folder


def _required(name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for text in importlib.metadata.requires(waiting.pop()) or ():
            requirement, _, marker = text.partition(";")
            if "extra ==" in marker:
                continue
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert match is not None
            dependency = match.group()
            try:
                importlib.metadata.distribution(dependency)
            except importlib.metadata.PackageNotFoundError:
                continue  # for another platform or Python
            if dependency not in found:
                found.add(dependency)
                waiting.append(dependency)
    return found


def _run(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without -S the site-packages of these tests, extras and all, would be there as well.
    environ = {**os.environ, "PYTHONPATH": str(bare)}
    return subprocess.run(
        [sys.executable, "-S", *arguments], env=environ, cwd=bare, capture_output=True, text=True, timeout=60
    )


def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("rolloutobs", "rum_collector", "synthetic"):
        assert f"{package}/py.typed" in names
    for build in ("rolloutobs", "rolloutobs-full"):
        assert {f"rum_collector/browser/dist/{build}{coding}" for coding in (".js", ".js.br")} <= names
    assert any(name.startswith("rolloutobs/analysis/templates/") for name in names)
    # What `rolloutobs render` is made from.
    manifests = {path.relative_to(ROOT) for path in (ROOT / "k8s").rglob("*.yaml")}
    assert {f"rolloutobs/manifests/{path}" for path in manifests} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"rolloutobs", "rum_collector", "synthetic"}
    assert not [name for name in names if "node_modules" in name or name.endswith((".ts", ".mjs"))]


def test_a_plain_install_brings_nothing_heavy(bare: Path) -> None:
    code = f"from importlib.util import find_spec; print([m for m in {HEAVY!r} if find_spec(m)])"
    done = _run(bare, "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_plain_install_instruments_an_app(bare: Path) -> None:
    code = """
import asyncio
from rolloutobs import instrument

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

async def ask(path):
    sent = []
    async def receive():
        return {"type": "http.request", "body": b""}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "root_path": "", "scheme": "http"}
    await wrapped(scope, receive, send)
    return b"".join(m.get("body", b"") for m in sent).decode()

wrapped = instrument(app, service="shop", version="1.2.0", track="canary")
assert asyncio.run(ask("/")) == "hello"
print(asyncio.run(ask("/metrics")))
"""
    done = _run(bare, "-c", code)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("http_requests_total")]
    assert lines
    assert all('app="shop"' in x and 'version="1.2.0"' in x and 'track="canary"' in x for x in lines)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("-m", "rolloutobs.cli", "gate", "--scrape", "127.0.0.1:1"), "analysis"),
        (("-m", "rolloutobs.cli", "render", "--app", "shop", "--image", "shop:1"), "analysis"),
        (("-m", "rum_collector", "--app", "shop"), "collector"),
        (
            (
                "-m", "synthetic", "run", "journey.py:checkout", "--app", "shop",
                "--stable", "http://127.0.0.1:1", "--canary", "http://127.0.0.1:2",
            ),
            "synthetic",
        ),
    ],
)  # fmt: skip
def test_a_missing_extra_prints_its_pip_line(bare: Path, arguments: tuple[str, ...], extra: str) -> None:
    if extra == "synthetic":
        (bare / "journey.py").write_text("async def checkout(page, shop): ...\n", encoding="utf-8")
    done = _run(bare, *arguments)
    assert done.returncode == 2
    assert f"pip install 'rolloutobs[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["rolloutobs.cli", "rum_collector", "synthetic"])
def test_help_needs_no_extra(bare: Path, module: str) -> None:
    done = _run(bare, "-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
