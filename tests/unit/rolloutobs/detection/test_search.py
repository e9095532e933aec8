import json
import subprocess
import sys
from pathlib import Path

import pytest

from rolloutobs.detection import Surroundings, complete, service_looks, version_looks
from rolloutobs.detection.modules import AppModule
from rolloutobs.identity import Track
from rolloutobs.settings import Settings


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "podinfo" / "labels"
    path.parent.mkdir()
    path.write_text('app="shop-primary"\napp.kubernetes.io/version="1.1.0"\nrole="canary"\nversion="v1"\n')
    return path


def around(environ, labels=None, folder=None, modules=()):
    path = None if labels is None else str(labels)
    settings = Settings.from_env(environ | {"ROLLOUTOBS_LABELS_FILE": path or "off"})
    return Surroundings(settings, environ, modules=modules, folder=folder)


def used(looks):
    return [(look.source, look.value) for look in looks if look.is_usable]


def working_tree(folder: Path) -> Path:
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("a" * 40)
    return folder


def test_the_order_of_the_version(labels, tmp_path):
    folder = working_tree(tmp_path / "tree")
    environ = {
        "ROLLOUTOBS_VERSION": "1",
        "APP_VERSION": "2",
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=3",
        "APP_IMAGE": "shop:6",
    }
    site = AppModule("pytest.main", Path(pytest.__file__))
    assert used(version_looks(around(environ, labels, folder, (site,)))) == [
        ("ROLLOUTOBS_VERSION", "1"),
        ("APP_VERSION", "2"),
        ("service.version in OTEL_RESOURCE_ATTRIBUTES", "3"),
        (f"label app.kubernetes.io/version in {labels}", "1.1.0"),
        (f"label version in {labels}", "v1"),
        ("image shop:6", "6"),
        ("distribution pytest", pytest.__version__),
        (f"git commit of {folder}", "a" * 12),
    ]


def test_the_order_of_the_service(labels):
    environ = {"OTEL_SERVICE_NAME": "a", "OTEL_RESOURCE_ATTRIBUTES": "service.name=b"}
    labels.write_text('app="shop-primary"\napp.kubernetes.io/name="till"')
    site = AppModule("pytest.main", Path(pytest.__file__))
    assert used(service_looks(around(environ, labels, modules=(site,)))) == [
        ("OTEL_SERVICE_NAME", "a"),
        ("service.name in OTEL_RESOURCE_ATTRIBUTES", "b"),
        (f"label app.kubernetes.io/name in {labels}", "till"),
        (f"label app in {labels}", "shop"),
        ("distribution pytest", "pytest"),
    ]


def test_what_is_known_stays_and_nothing_is_opened():
    class Trap(dict):
        def get(self, *arguments):
            raise AssertionError("looked at the environment")

    settings = Settings(service="shop", version="1", track="canary", labels_file="/dev/null/x")
    assert complete(settings, Trap()) == settings


def test_cheap_places_come_first():
    class Lazy(Surroundings):
        modules = property(lambda self: pytest.fail("looked for modules"))
        labels = property(lambda self: pytest.fail("read the labels"))

    environ = {"APP_VERSION": "1"}
    looks = version_looks(Lazy(Settings.from_env(environ), environ))
    assert next(look for look in looks if look.is_usable).value == "1"


def test_settings_are_completed(labels):
    settings = Settings.from_env({"ROLLOUTOBS_LABELS_FILE": str(labels), "ROLLOUTOBS_TRACK": "stable"})
    found = complete(settings, {"ROLLOUTOBS_TRACK": "stable"})
    assert (found.service, found.version, found.track) == ("shop", "1.1.0", Track.CANARY)
    assert not found.track_is_fixed
    assert found.labels_file == str(labels)
    assert complete(found, {}) == found


def test_settings_made_without_the_environment_are_completed_from_it():
    environ = {"OTEL_SERVICE_NAME": "shop", "APP_IMAGE": "shop:7", "ROLLOUTOBS_TRACK": "canary"}
    found = complete(Settings(labels_file=None), environ)
    assert (found.service, found.version, found.track) == ("shop", "7", Track.CANARY)
    assert complete(Settings(labels_file=None, image="shop:8"), environ).version == "8"


def test_a_track_that_the_app_names_stays(labels):
    assert complete(Settings(track="baseline", labels_file=str(labels)), {}).track is Track.BASELINE
    named = Settings.from_env({"ROLLOUTOBS_LABELS_FILE": str(labels)}).overridden(track="stable")
    assert complete(named, {}).track is Track.STABLE


def test_a_track_from_the_environment_holds_where_no_label_names_one(labels):
    environ = {"ROLLOUTOBS_LABELS_FILE": str(labels), "ROLLOUTOBS_TRACK": "canary"}
    labels.write_text('role="web"\napp="shop-primary"')
    assert complete(Settings.from_env(environ), environ).track is Track.CANARY
    assert complete(Settings.from_env(environ), {}).track is Track.STABLE
    labels.unlink()
    assert complete(Settings.from_env(environ), {}).track is Track.CANARY


def test_detection_can_be_off(labels):
    settings = Settings(detection=False, labels_file=str(labels))
    assert complete(settings, {"APP_VERSION": "1"}) == settings


@pytest.mark.parametrize("value", ["a b", "é", '\\"x\\"', "x" * 200])
def test_a_label_that_cannot_be_a_version_is_passed_over(labels, value):
    labels.write_text(f'app.kubernetes.io/version="{value}"\nversion="v1"')
    found = complete(Settings(service="shop", labels_file=str(labels)), {})
    assert found.version == "v1"
    looks = {look.source: look for look in version_looks(around({}, labels))}
    assert "printable ASCII" in looks[f"label app.kubernetes.io/version in {labels}"].reason


def test_a_place_that_fails_is_told_and_passed_over(tmp_path):
    folder = working_tree(tmp_path / "tree")
    (folder / ".git" / "HEAD").write_bytes(b"\xff")
    looks = list(version_looks(around({}, folder=folder)))
    assert "UnicodeDecodeError" in looks[-1].reason
    assert looks[-1].source == "git"


def test_the_home_folder_counts_where_the_app_is_started_there(tmp_path):
    home = working_tree(tmp_path / "home")
    below = home / "app"
    below.mkdir()
    environ = {"HOME": str(home)}
    assert used(version_looks(around(environ, folder=below))) == []
    module = AppModule("main", below / "main.py")
    assert used(version_looks(around(environ, folder=below, modules=(module,)))) == []
    (found,) = used(version_looks(around(environ, folder=home, modules=(module,))))
    assert found == (f"git commit of {home}", "a" * 12)


def test_a_working_folder_that_is_gone_is_passed_over(tmp_path):
    code = (
        "import os, sys\nfrom rolloutobs import Settings\nfrom rolloutobs.detection import complete\n"
        "gone = sys.argv[1]\nos.mkdir(gone)\nos.chdir(gone)\nos.rmdir(gone)\n"
        "assert complete(Settings(), {}, None) == Settings()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "gone")], check=True, timeout=60)


def test_half_written_labels_name_nothing(labels):
    labels.write_text('app.kubernetes.io/version="1.1.0"\ntrack="can')
    found = complete(Settings(service="shop", labels_file=str(labels), image="shop:5"), {})
    assert (found.version, found.track) == ("5", Track.NONE)


def test_the_working_tree_of_an_app_that_lies_elsewhere(tmp_path):
    folder = working_tree(tmp_path / "tree")
    (folder / "main.py").write_text(
        "import json\nfrom rolloutobs import Settings\nfrom rolloutobs.detection import complete\n"
        "found = complete(Settings(), {}, object())\nprint(json.dumps([found.version, found.service]))\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, str(folder / "main.py")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == ["a" * 12, "unknown"]
