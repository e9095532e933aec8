from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from rolloutobs.errors import ConfigurationError
from rum_collector.configuration import from_env
from rum_collector.options import HELP
from rum_collector.settings import Settings


def test_every_setting_has_its_help_line() -> None:
    assert list(HELP) == [field.name for field in fields(Settings)]


def test_the_path_of_the_script_gives_ad_blockers_nothing() -> None:
    settings = Settings()
    for path in (settings.beacon_path, settings.simple_path, settings.script_path):
        assert not any(word in path for word in ("rum", "beacon", "analytics", "track"))


def test_settings_from_the_environment() -> None:
    given = from_env(
        {
            "ROLLOUTOBS_COLLECTOR_APPS": "shop, blog,",
            "ROLLOUTOBS_COLLECTOR_PORT": "9000",
            "ROLLOUTOBS_COLLECTOR_BEACON_PATH": "/x",
            "ROLLOUTOBS_COLLECTOR_HOST": "",
            "ROLLOUTOBS_VERSION": "1",
        }
    )
    assert given == {"apps": ("shop", "blog"), "port": 9000, "beacon_path": "/x"}
    assert Settings(**given).apps == ("shop", "blog")


def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting() -> None:
    links = {
        "ROLLOUTOBS_COLLECTOR_SERVICE_HOST": "10.0.0.1",
        "ROLLOUTOBS_COLLECTOR_SERVICE_PORT": "80",
        "ROLLOUTOBS_COLLECTOR_SERVICE_PORT_HTTP": "80",
        "ROLLOUTOBS_COLLECTOR_PORT": "tcp://10.0.0.1:80",
        "ROLLOUTOBS_COLLECTOR_PORT_80_TCP": "tcp://10.0.0.1:80",
        "ROLLOUTOBS_COLLECTOR_PORT_80_TCP_PROTO": "tcp",
        "ROLLOUTOBS_COLLECTOR_PORT_80_TCP_PORT": "80",
        "ROLLOUTOBS_COLLECTOR_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert from_env(links | {"ROLLOUTOBS_COLLECTOR_HOST": "0.0.0.0"}) == {"host": "0.0.0.0"}


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("ROLLOUTOBS_COLLECTOR_PORT", "many", "ROLLOUTOBS_COLLECTOR_PORT is 'many'; use a whole number"),
        ("ROLLOUTOBS_COLLECTOR_PROT", "1", "ROLLOUTOBS_COLLECTOR_PROT is no setting of the collector"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_env({variable: text})


@pytest.mark.parametrize(
    "given",
    [
        {"beacon_path": "b"},
        {"script_path": "/metrics"},
        {"beacon_path": "/x", "simple_path": "/x"},
        {"max_label_sets": 0},
        {"client_rate": float("nan")},
        {"trusted_proxies": ("10.0.0.0/8", "here")},
        {"version_urls": ("shop:8000/metrics",)},
        {"forward_url": "otel:4318"},
        {"version_idle_seconds": 0},
        {"port": 65_536},
        {"port": -1},
    ],
)
def test_what_cannot_work_is_refused_at_start_up(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"; use|must differ"):
        Settings(**given)
