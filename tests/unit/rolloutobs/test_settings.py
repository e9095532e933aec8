import pytest

from rolloutobs import Settings, Track
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Identity


def test_an_empty_environment_gives_the_defaults():
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.identity == Identity("unknown", "unknown")
    assert settings.metrics_path == "/metrics"
    assert settings.excluded_paths == {"/metrics", "/healthz", "/livez", "/readyz"}
    assert settings.sampling_ratio == 0.1
    assert not settings.export_traces


def test_variables_of_the_process_come_before_resource_attributes():
    resource = (
        "service.name=other,service.version=0.9,deployment.environment.name=prod%20eu,rolloutobs.track=stable,"
        "vcs.ref.head.revision=abc123"
    )
    environ = {"OTEL_RESOURCE_ATTRIBUTES": resource.replace("%20", "-")}
    from_resource = Settings.from_env(environ)
    assert from_resource.identity == Identity("other", "0.9", Track.STABLE, "prod-eu")
    assert from_resource.revision == "abc123"
    both = environ | {
        "OTEL_SERVICE_NAME": "shop",
        "APP_VERSION": "1.1.0",
        "ROLLOUTOBS_TRACK": "canary",
        "ROLLOUTOBS_REVISION": "def456",
    }
    assert Settings.from_env(both).identity == Identity("shop", "1.1.0", Track.CANARY, "prod-eu")
    assert Settings.from_env(both).revision == "def456"
    assert Settings.from_env(both | {"ROLLOUTOBS_VERSION": " 1.2.0 "}).version == "1.2.0"


def test_resource_attributes_are_percent_decoded_and_odd_ones_skipped():
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.version=1.2.0%2Bbuild.5,,nonsense,x="}
    assert Settings.from_env(environ).version == "1.2.0+build.5"


def test_arguments_come_before_settings():
    settings = Settings(service="a", version="1", track=Track.STABLE)
    changed = settings.overridden(service="b", version=" 2 ", track="canary")
    assert changed.identity == Identity("b", "2", Track.CANARY)
    assert settings.overridden() == settings
    assert settings.overridden(track="").track is Track.NONE


@pytest.mark.parametrize("text", ["", "off", "None"])
def test_the_metrics_path_can_be_turned_off(text):
    assert Settings.from_env({"ROLLOUTOBS_METRICS_PATH": text}).metrics_path is None


def test_paths_booleans_and_numbers_are_read():
    settings = Settings.from_env(
        {
            "ROLLOUTOBS_METRICS_PATH": "/internal/metrics",
            "ROLLOUTOBS_EXCLUDED_PATHS": "/ping, /up",
            "ROLLOUTOBS_SERVER_TIMING": "off",
            "ROLLOUTOBS_MAX_LABEL_SETS": "50",
            "ROLLOUTOBS_SAMPLING_RATIO": "0.5",
        }
    )
    assert settings.metrics_path == "/internal/metrics"
    assert settings.excluded_paths == {"/ping", "/up"}
    assert not settings.server_timing
    assert settings.max_label_sets == 50
    assert settings.sampling_ratio == 0.5


def test_the_sampler_of_the_sdk_is_left_alone_where_one_is_named():
    assert Settings.from_env({"OTEL_TRACES_SAMPLER": "always_on"}).sampling_ratio is None


@pytest.mark.parametrize(
    ("environ", "exports"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_traces_are_exported_only_to_a_configured_endpoint(environ, exports):
    assert Settings.from_env(environ).export_traces is exports


def test_the_protocol_of_the_exporter_is_read():
    assert not Settings.from_env({}).otlp_grpc
    assert Settings.from_env({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}).otlp_grpc
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert not Settings.from_env(both).otlp_grpc


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ROLLOUTOBS_TRACK": "blue"}, "ROLLOUTOBS_TRACK is 'blue'"),
        ({"ROLLOUTOBS_SERVER_TIMING": "maybe"}, "ROLLOUTOBS_SERVER_TIMING is 'maybe'; use 'true' or 'false'"),
        ({"ROLLOUTOBS_MAX_LABEL_SETS": "many"}, "ROLLOUTOBS_MAX_LABEL_SETS is 'many'"),
        ({"ROLLOUTOBS_MAX_LABEL_SETS": "0"}, "use at least 1"),
        ({"ROLLOUTOBS_SAMPLING_RATIO": "10%"}, "ROLLOUTOBS_SAMPLING_RATIO is '10%'"),
        ({"ROLLOUTOBS_SAMPLING_RATIO": "10"}, "use a number from 0 to 1"),
        ({"ROLLOUTOBS_METRICS_PATH": "metrics"}, "path 'metrics' must start with '/'"),
        ({"ROLLOUTOBS_EXCLUDED_PATHS": "/a,b"}, "path 'b' must start with '/'"),
        ({"APP_VERSION": 'a"b'}, "version is"),
        ({"APP_VERSION": "1.2.0 beta"}, "without blanks"),
        ({"APP_VERSION": "x" * 129}, "at most 128"),
        ({"OTEL_SERVICE_NAME": "café"}, "service is 'café'"),
    ],
)
def test_bad_values_say_what_is_wrong(environ, message):
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_env(environ)


def test_a_track_given_as_a_word_is_a_track():
    assert Settings(track="canary").track is Track.CANARY
    with pytest.raises(ConfigurationError, match="track is 'green'"):
        Settings(track="green")


def test_empty_names_are_refused():
    with pytest.raises(ConfigurationError, match="must not be empty"):
        Settings(service="shop").overridden(version="")
