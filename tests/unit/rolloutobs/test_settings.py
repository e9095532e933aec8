from dataclasses import fields

import pytest

from rolloutobs import Settings, Track
from rolloutobs.environment import VARIABLES
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Identity
from rolloutobs.ratios import Ratios
from rolloutobs.settings import Naming, OnConflict, SpanMode


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
        ({"ROLLOUTOBS_CANARY_SAMPLING_RATIO": "-1"}, "canary_sampling_ratio is -1"),
        ({"ROLLOUTOBS_METRICS_PORT": "70000"}, "use a port from 0 to 65535"),
        ({"ROLLOUTOBS_OLD_TRACK_SECONDS": "nan"}, "use 0 or more"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "export_interval_seconds is 0.0; use a number above 0"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "often"}, "OTEL_METRIC_EXPORT_INTERVAL is 'often'; use a number"),
        ({"ROLLOUTOBS_LABELS_INTERVAL_SECONDS": "0"}, "labels_interval_seconds is 0.0; use a number above 0"),
        ({"ROLLOUTOBS_DURATION_BOUNDS": "0.5,0.1"}, "use ascending numbers of seconds"),
        ({"ROLLOUTOBS_DURATION_BOUNDS": "fast"}, "ROLLOUTOBS_DURATION_BOUNDS is 'fast'"),
        ({"ROLLOUTOBS_SPANS": "both"}, "ROLLOUTOBS_SPANS is 'both'; use one of 'own', 'contrib', 'off'"),
        ({"ROLLOUTOBS_SECRET_FILE": "/nowhere/secret"}, "which cannot be read"),
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


def test_only_a_track_that_the_app_itself_names_is_fixed():
    from_env = Settings.from_env({"ROLLOUTOBS_TRACK": "canary"})
    assert not from_env.track_is_fixed
    assert not from_env.overridden(version="2").track_is_fixed
    assert from_env.overridden(track="canary").track_is_fixed
    assert not from_env.overridden(track="").track_is_fixed
    assert Settings(track="canary").track_is_fixed
    assert not Settings().track_is_fixed


def test_detection_can_be_turned_off():
    assert Settings().detection
    assert not Settings.from_env({"ROLLOUTOBS_DETECTION": "off"}).detection


def test_the_interval_of_the_labels_is_read():
    assert Settings().labels_interval_seconds == 2.0
    assert Settings.from_env({"ROLLOUTOBS_LABELS_INTERVAL_SECONDS": "0.5"}).labels_interval_seconds == 0.5
    assert Settings().export_interval_seconds == 60.0
    assert Settings.from_env({"OTEL_METRIC_EXPORT_INTERVAL": "1500"}).export_interval_seconds == 1.5


def test_empty_names_are_refused():
    with pytest.raises(ConfigurationError, match="must not be empty"):
        Settings(service="shop").overridden(version="")


def test_every_variable_belongs_to_a_field_and_every_field_is_described():
    names = {field.name for field in fields(Settings)}
    assert {variable.field for variable in VARIABLES} <= names


def test_what_issue_three_added_is_read():
    settings = Settings.from_env(
        {
            "ROLLOUTOBS_LABELS_FILE": "off",
            "ROLLOUTOBS_METRICS_PORT": "9464",
            "ROLLOUTOBS_METRICS_DIR": "/var/run/cells",
            "ROLLOUTOBS_NAMING": "semconv",
            "ROLLOUTOBS_ON_CONFLICT": "Adopt",
            "ROLLOUTOBS_SPANS": "contrib",
            "ROLLOUTOBS_SECRET": "new, old",
            "ROLLOUTOBS_METRICS_TOKEN": "t",
            "ROLLOUTOBS_IDENTITY_HOSTS": "*.example.com",
            "OTEL_PYTHON_EXCLUDED_URLS": "client/.*/info,healthcheck",
            "OTEL_SDK_DISABLED": "TRUE",
        }
    )
    assert settings.labels_file is None
    assert settings.metrics_port == 9464
    assert settings.metrics_dir == "/var/run/cells"
    assert settings.naming is Naming.SEMCONV
    assert settings.bounds[:3] == (0.005, 0.01, 0.025)
    assert settings.on_conflict is OnConflict.ADOPT
    assert settings.spans is SpanMode.CONTRIB
    assert settings.secret == ("new", "old")
    assert settings.metrics_token == ("t",)
    assert settings.identity_hosts == ("*.example.com",)
    assert settings.excluded_urls == ("client/.*/info", "healthcheck")
    assert settings.sdk_disabled


def test_secrets_come_from_files_too(tmp_path):
    path = tmp_path / "secret"
    path.write_text("new\nold\n")
    assert Settings.from_env({"ROLLOUTOBS_SECRET_FILE": str(path)}).secret == ("new", "old")
    path.write_text(" \n")
    with pytest.raises(ConfigurationError, match="which is empty"):
        Settings.from_env({"ROLLOUTOBS_SECRET_FILE": str(path)})


@pytest.mark.parametrize(
    ("environ", "metrics", "logs"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True, False),
        ({"OTEL_LOGS_EXPORTER": "otlp,console"}, False, True),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://x"}, False, True),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://x", "OTEL_LOGS_EXPORTER": "none"}, False, False),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False, False),
    ],
)
def test_metrics_and_logs_go_over_otlp_only_where_that_is_said(environ, metrics, logs):
    settings = Settings.from_env(environ)
    assert (settings.export_metrics, settings.export_logs) == (metrics, logs)


@pytest.mark.parametrize(
    ("environ", "ratios"),
    [
        ({}, Ratios(0.1, 0.1, 0.1, 0.1)),
        ({"ROLLOUTOBS_SAMPLING_RATIO": "0.2"}, Ratios(0.2, 0.2, 0.2, 0.2)),
        ({"ROLLOUTOBS_CANARY_SAMPLING_RATIO": "1"}, Ratios(0.1, 1.0, 1.0, 0.1)),
        ({"OTEL_TRACES_SAMPLER": "rollout"}, Ratios(0.1, 1.0, 1.0, 0.1)),
        (
            {"OTEL_TRACES_SAMPLER": "rollout", "OTEL_TRACES_SAMPLER_ARG": "stable=0.01,canary=0.2,none=0"},
            Ratios(0.01, 0.2, 0.2, 0.0),
        ),
        (
            {"OTEL_TRACES_SAMPLER": "rollout", "ROLLOUTOBS_CANARY_SAMPLING_RATIO": "0.5"},
            Ratios(0.1, 0.5, 1.0, 0.1),
        ),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, None),
    ],
)
def test_every_track_has_a_sampling_ratio(environ, ratios):
    assert Settings.from_env(environ).ratios == ratios


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"OTEL_TRACES_SAMPLER": "rollout", "OTEL_TRACES_SAMPLER_ARG": "2"},
            "OTEL_TRACES_SAMPLER_ARG is '2'",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "always_on", "ROLLOUTOBS_CANARY_SAMPLING_RATIO": "1"},
            "OTEL_TRACES_SAMPLER=rollout",
        ),
    ],
)
def test_sampling_that_cannot_be_is_refused(environ, message):
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_env(environ)


def test_where_a_job_leaves_its_metrics():
    settings = Settings.from_env(
        {"ROLLOUTOBS_PUSHGATEWAY": " http://gateway:9091 ", "ROLLOUTOBS_PUSH_INSTANCE": "shard-7"}
    )
    assert (settings.pushgateway, settings.push_instance) == ("http://gateway:9091", "shard-7")
    assert Settings.from_env({}).pushgateway == ""
