import pytest

from rolloutobs import Settings
from rolloutobs.errors import ConfigurationError
from rolloutobs.telemetry import starting
from rolloutobs.testing import parse_metrics, sample_value

PARTS = ("follow", "set_exporting_provider", "serve_from_settings")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_is_counted_and_the_rest_starts(part, monkeypatch):
    def broken(*_):
        raise RuntimeError(f"{part} is broken")

    monkeypatch.setattr(starting, part, broken)
    hub = starting.start(Settings(service="shop", version="1.2.0"))
    samples = parse_metrics(hub.render().body.decode())
    assert sample_value(samples, "rolloutobs_internal_errors_total", where="start") == 1
    assert sample_value(samples, "app_build_info", version="1.2.0") == 1


def test_a_bad_setting_is_raised():
    with pytest.raises(ConfigurationError):
        starting.start(Settings(service="shop", identity_hosts=("http://not a host",)))
