"""``rolloutobs identity`` as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rolloutobs.cli import identity

ROOT = Path(__file__).parents[3]


def run(folder, *arguments, **environ):
    command = [sys.executable, "-m", "rolloutobs.cli", "identity", *arguments]
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(folder), **environ}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def by_name(environ):
    return {trait.name: trait for trait in identity.traits(environ)}


@pytest.fixture
def pod(tmp_path):
    path = tmp_path / "labels"
    path.write_text('app="shop-primary"\nrole="web"\nversion="1.1.0"')
    return {"ROLLOUTOBS_LABELS_FILE": str(path)}


def test_what_is_known_and_where_it_comes_from(pod, tmp_path):
    done = run(tmp_path, APP_VERSION="1.2.0", ROLLOUTOBS_ENVIRONMENT="prod", **pod)
    assert done.returncode == 0
    assert done.stderr == ""
    shown = [" ".join(line.split()) for line in done.stdout.splitlines()]
    path = pod["ROLLOUTOBS_LABELS_FILE"]
    assert shown[:5] == [
        f"service shop (label app in {path})",
        "version 1.2.0 (APP_VERSION)",
        f"track stable (label app='shop-primary' in {path})",
        "environment prod (ROLLOUTOBS_ENVIRONMENT)",
        "revision - (not reported)",
    ]
    assert shown[5].startswith("instance ")
    assert f"version label version in {path} = 1.1.0: comes after APP_VERSION" in shown
    assert any("= web: is no track; use one of" in line for line in shown)
    assert any("not set: ROLLOUTOBS_REVISION, vcs.ref.head.revision" in line for line in shown)


def test_what_is_not_known_says_how_to_set_it(tmp_path):
    done = run(tmp_path, ROLLOUTOBS_LABELS_FILE="off")
    assert done.returncode == 1
    assert "The service is not known: set OTEL_SERVICE_NAME" in done.stdout
    assert "The version is not known: set ROLLOUTOBS_VERSION" in done.stdout
    known = run(tmp_path, OTEL_SERVICE_NAME="shop", ROLLOUTOBS_LABELS_FILE="off")
    assert known.returncode == 1
    assert "The service is not known" not in known.stdout


def test_json_has_everything(pod, tmp_path):
    done = run(tmp_path, "--json", APP_IMAGE="shop:latest", **pod)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["version"]["value"] == "1.1.0"
    assert found["track"]["value"] == "stable"
    assert found["environment"]["value"] is None
    (image,) = (look for look in found["version"]["others"] if "image" in look["source"])
    assert image["value"] == "latest"
    assert "another version tomorrow" in image["reason"]
    assert all(look["reason"] for trait in found.values() for look in trait["others"])


def test_a_value_that_instrument_would_refuse_is_refused_here(tmp_path):
    done = run(tmp_path, ROLLOUTOBS_TRACK="blue")
    assert done.returncode == 2
    assert done.stderr.startswith("rolloutobs: ROLLOUTOBS_TRACK is 'blue'")


def test_the_module_of_the_app_is_found_and_not_imported(tmp_path):
    package = tmp_path / "shop_here"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("b" * 40)
    done = run(tmp_path, "--json", "shop_here.main:app", OTEL_SERVICE_NAME="shop")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"]["value"] == "b" * 12
    assert "shop_here.main does not belong to an installed distribution" in done.stdout
    wrong = run(tmp_path, "shop_nowhere:app")
    assert wrong.returncode == 2
    assert "there is no module 'shop_nowhere' here" in wrong.stderr


def test_detection_that_is_off_looks_at_variables_only(pod):
    found = by_name({**pod, "ROLLOUTOBS_DETECTION": "off", "ROLLOUTOBS_TRACK": "canary"})
    assert found["version"].chosen is None
    assert found["track"].chosen.value == "canary"
    assert {look.source for look in found["service"].looks} == {
        "OTEL_SERVICE_NAME",
        "service.name in OTEL_RESOURCE_ATTRIBUTES",
    }


def test_the_track_of_a_label_comes_before_that_of_a_variable(tmp_path):
    path = tmp_path / "labels"
    path.write_text("canary")
    found = by_name({"ROLLOUTOBS_LABELS_FILE": str(path), "ROLLOUTOBS_TRACK": "stable"})["track"]
    assert found.chosen.source == f"the only label in {path}"
    (shadowed,) = (look for look in found.others if look.source == "ROLLOUTOBS_TRACK")
    assert shadowed.reason == f"comes after the only label in {path}"


def test_help_teaches():
    shown = subprocess.run(
        [sys.executable, "-m", "rolloutobs.cli", "identity", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert "exit codes" in shown
    assert "rolloutobs identity shop.main:app" in shown
