"""Real installs by pip, asked from processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolloutobs.detection.distribution import distribution_looks, owner_of
from rolloutobs.detection.modules import AppModule

ROOT = Path(__file__).parents[4]
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "{version}"
dependencies = {requires}
[tool.hatch.build]
dev-mode-dirs = ["."]
[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""
PLATFORM = """\
from rolloutobs import Settings
from rolloutobs.detection import complete
def set_up(app):
    return complete(Settings(), {}, app)
"""
MAIN = """\
from fastapi import FastAPI
from acme_platform import set_up
app = FastAPI()
found = set_up(app)
"""
ASK = """\
import json, site, sys
site.addsitedir(sys.argv[1])
sys.path.insert(0, sys.argv[2])
found = __import__(sys.argv[3], fromlist=["found"]).found
print(json.dumps([found.service, found.version]))
"""


def project(folder: Path, name: str, package: str, files: dict[str, str], **more) -> Path:
    (folder / package).mkdir(parents=True)
    requires = json.dumps(more.get("requires", []))
    version = more.get("version", "1.2.3")
    (folder / "pyproject.toml").write_text(
        PROJECT.format(name=name, version=version, package=package, requires=requires)
    )
    for file, text in {"__init__.py": "", **files}.items():
        (folder / package / file).write_text(text)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return (site-packages with everything, folder of projects)."""
    work = tmp_path_factory.mktemp("installed")
    platform = project(work / "platform", "acme-platform", "acme_platform", {"__init__.py": PLATFORM})
    editable = project(work / "shop", "Shop.API", "shop_api", {"main.py": MAIN}, requires=["acme.platform>1"])
    regular = project(
        work / "till", "acme-till", "till", {"main.py": MAIN}, version="2.0.0", requires=["acme_platform"]
    )
    other = project(work / "other", "acme-other", "other", {"main.py": MAIN})
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index"]
    install += ["--no-deps", "--no-build-isolation", "--prefix", str(work / "prefix")]
    install += [*map(str, (platform, regular, other)), "-e", str(editable)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    (site,) = (work / "prefix").rglob("site-packages")
    return site, work


def ask(installed, module: str, folder: Path | None = None) -> list[str]:
    site, work = installed
    command = [sys.executable, "-c", ASK, str(site), str(folder or work), module]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=work, env=environ, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_editable_install_that_a_companys_library_instruments(installed):
    assert ask(installed, "shop_api.main") == ["Shop.API", "1.2.3"]


def test_a_regular_install_whose_package_has_another_name(installed):
    assert ask(installed, "till.main") == ["acme-till", "2.0.0"]


def test_two_distributions_of_which_neither_requires_the_other(installed):
    assert ask(installed, "other.main") == ["unknown", "unknown"]


def test_source_beside_an_installed_package_of_the_same_name_is_not_that_package(installed):
    _, work = installed
    folder = work / "source"
    (folder / "till").mkdir(parents=True)
    (folder / "till" / "__init__.py").touch()
    (folder / "till" / "main.py").write_text(MAIN)
    assert ask(installed, "till.main", folder) == ["unknown", "unknown"]


def asked(file: Path, name: str = "shop"):
    return distribution_looks((AppModule(name, file),))


def write_distribution(site: Path, name: str, version: str, files: str = "", direct_url: str = "") -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(files)
    if direct_url:
        (info / "direct_url.json").write_text(direct_url)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "lib" / "site-packages"
    (folder / "shop_x").mkdir(parents=True)
    (folder / "shop_x" / "main.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    owner_of.cache_clear()


def test_a_package_of_the_same_name_that_does_not_have_the_file_is_not_the_owner(site):
    write_distribution(site, "shop_x", "9.9", "shop_x/other.py,,\n")
    name, version = asked(site / "shop_x" / "main.py", "shop_x.main")
    assert not name.is_usable
    assert "does not belong to an installed distribution" in version.reason


def test_the_owner_of_the_file(site):
    write_distribution(site, "shop_x", "1.0", "shop_x/main.py,,\n")
    name, version = asked(site / "shop_x" / "main.py", "shop_x.main")
    assert (name.value, version.value, version.source) == ("shop_x", "1.0", "distribution shop_x")


def test_a_placeholder_keeps_the_name(site):
    write_distribution(site, "shop_x", "0.0.0", "shop_x/main.py,,\n")
    name, version = asked(site / "shop_x" / "main.py", "shop_x.main")
    assert name.is_usable
    assert "placeholder" in version.reason


def test_the_closest_editable_project_counts_and_its_virtualenv_does_not(site, tmp_path):
    outer, inner = tmp_path / "repo", tmp_path / "repo" / "services" / "shop"
    inner.mkdir(parents=True)
    for name, folder in (("outer", outer), ("inner", inner)):
        said = {"url": folder.as_uri(), "dir_info": {"editable": True}}
        write_distribution(site, name, "1.0", direct_url=json.dumps(said))
    assert asked(inner / "main.py", "main")[0].value == "inner"
    assert asked(outer / "main.py", "main")[0].value == "outer"
    assert not asked(outer / ".venv/lib/site-packages/thing/x.py", "thing.x")[0].value
    assert not asked(tmp_path / "elsewhere" / "main.py", "main")[0].value


@pytest.mark.parametrize(
    "said",
    [
        '{"editable"',
        '["editable"]',
        '{"editable": 1}',
        '{"url": 3, "dir_info": {"editable": true}}',
        '{"url": "https://example.com/", "dir_info": {"editable": true}}',
        '{"url": "file:///", "dir_info": {"editable": false}}',
        '{"url": "file:///", "dir_info": []}',
        '{"url": "http://[", "dir_info": {"editable": true}}',
    ],
)
def test_a_strange_direct_url_is_passed_over(site, tmp_path, said):
    write_distribution(site, "strange", "1.0", direct_url=said)
    assert not asked(tmp_path / "main.py", "main")[0].value


def test_a_module_without_a_file_has_no_owner():
    assert owner_of(AppModule("frozen", None)) is None
    assert "not known" in distribution_looks(())[0].reason
