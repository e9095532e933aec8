from __future__ import annotations

from pathlib import Path

import pytest

from rolloutobs.errors import ConfigurationError
from rum_collector.configuration import Configured, configured, from_file, tell
from rum_collector.settings import OPTIONS, Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "collector.toml"


def test_a_file_is_below_the_environment_and_that_below_the_command_line(file: Path) -> None:
    file.write_text(
        'apps = ["shop", "blog"]\n# behind the ingress\ntrusted_proxies = [\n  "10.0.0.0/8",\n]\nport = 1\n'
        "workers = 2\nclient_rate = 5\ncount_bots = true\n"
    )
    environ = {
        "ROLLOUTOBS_COLLECTOR_CONFIG": str(file),
        "ROLLOUTOBS_COLLECTOR_PORT": "2",
        "ROLLOUTOBS_COLLECTOR_WORKERS": "3",
        "ROLLOUTOBS_SECRET": "of many characters",
    }
    found = configured(environ, {"workers": ("--workers", 4)})
    assert found == Configured(
        Settings(
            apps=("shop", "blog"), trusted_proxies=("10.0.0.0/8",), port=2, workers=4, client_rate=5.0,
            count_bots=True, secret=("of many characters",),
        ),
        {
            "apps": f"{file}, line 1", "trusted_proxies": f"{file}, line 3", "client_rate": f"{file}, line 8",
            "count_bots": f"{file}, line 9", "port": "ROLLOUTOBS_COLLECTOR_PORT", "workers": "--workers",
            "secret": "ROLLOUTOBS_SECRET",
        },
    )  # fmt: skip
    assert "many characters" not in found.text()
    # A file on the command line takes the place of the one in the environment.
    other = file.with_name("other.toml")
    other.write_text("")
    assert configured(environ, {"config": ("--config", str(other))}).settings.apps == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nmax_route = 3", "line 2: 'max_route' is no setting of the collector; did you mean 'max_routes'?"),
        ("[collector]\nport = 1", "line 1: 'collector' is no setting of the collector; use one of apps, "),
        ("secret = 'x'", "line 1: a secret is not kept in this file; use ROLLOUTOBS_SECRET or"),
        ("port = '1'", "line 1: port is '1'; use a whole number"),
        ("port = true", "line 1: port is True; use a whole number"),
        ("port = 1.5", "line 1: port is 1.5; use a whole number"),
        ("client_rate = '5'", "line 1: client_rate is '5'; use a number"),
        ("count_bots = 1", "line 1: count_bots is 1; use true or false"),
        ("host = 1", "line 1: host is 1; use a text in quotes"),
        ("apps = [1]", r"line 1: apps is \[1\]; use a list of texts"),
        ("workers = 1\n\nport 2", "is not TOML: .*line 3"),
        ("versions = [\n  '1.0:green',\n]", "line 1: the track in versions is 'green'; use"),
        ("workers = 1\nport = 70000", "line 2: port is 70000; use 0 to 65535"),
        ("workers = 0", "line 1: workers is 0; use at least 1"),
        ("beacon_path = 'b'", "line 1: beacon_path is 'b'; use an absolute path"),
        ("forward_url = 'otel'", "line 1: forward_url has 'otel', which is not an address"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        configured({"ROLLOUTOBS_COLLECTOR_CONFIG": str(file)}, {})
    assert str(raised.value).startswith(str(file))


def test_a_file_that_is_not_there_is_an_error_and_not_the_defaults(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the configuration"):
        from_file(file)


def test_what_wins_over_a_wrong_line_is_what_counts(file: Path) -> None:
    file.write_text("port = 70000")
    environ = {"ROLLOUTOBS_COLLECTOR_CONFIG": str(file), "ROLLOUTOBS_COLLECTOR_PORT": "1"}
    assert configured(environ, {}).settings.port == 1


def test_workers_are_told_every_setting_whatever_was_said_before(file: Path) -> None:
    file.write_text("workers = 5")
    environ = {"ROLLOUTOBS_COLLECTOR_CONFIG": str(file), "ROLLOUTOBS_COLLECTOR_PORT": "9000", "PATH": "/bin"}
    told = Settings(apps=("a", "b"), count_bots=True, client_rate=2.5)
    tell(environ, told)
    assert configured(environ, {}).settings == told
    assert environ["PATH"] == "/bin"


def test_every_setting_survives_being_printed(file: Path) -> None:
    changed = Settings(
        **{
            name: ("a", "b")
            if name in ("apps", "origins")
            else f'of "{name}"\\ \u00e9'
            if name == "data_dir"
            else value
            for name, value in ((name, getattr(Settings(), name)) for name in OPTIONS)
        }
    )
    file.write_text(Configured(changed, {}).text())
    given, _ = from_file(file)
    assert Settings(**given) == changed
    assert tuple(given) == OPTIONS
