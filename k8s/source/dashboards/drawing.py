"""Grafana's JSON of a `Board`, made with the grafana-foundation-sdk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphTresholdsStyleMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableOption,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from k8s.source.dashboards.model import LEGEND, Board, Kind, Panel, Query
from rolloutobs import semconv
from rolloutobs.cluster.model import Phase
from rolloutobs.identity import Track

__all__ = ["draw"]

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 8
_ALL: Final = VariableOption(text="All", value="$__all")
_RANGES: Final = "1m,5m,15m,30m,1h"
_SEEN: Final = f'count by (version) ({semconv.APP_BUILD_INFO}{{app="$app"}})'
# Each is a series that exists for a moment only: what Grafana draws as a line across all panels.
_BEFORE: Final = _SEEN.replace("}", "} offset 1m")
_OF_THE_APP: Final = f'and on (namespace, workload) {semconv.PODS}{{app="$app"}}'
_ROLLOUTS: Final = (
    f"max by (namespace, workload, from_version, to_version) ({semconv.ROLLOUT_INFO}) "
    f"unless max by (namespace, workload, from_version, to_version) ({semconv.ROLLOUT_INFO} offset 1m) "
    # Not all that there are when the watcher starts.
    f"and on () count({semconv.ROLLOUT_INFO} offset 1m) {_OF_THE_APP}"
)
_ENDED: Final = "|".join(phase.value for phase in Phase if phase.is_end)
_PHASES: Final = f'max by (namespace, workload, phase) ({semconv.ROLLOUT_PHASE}{{phase=~"{_ENDED}"}})'
_ENDS: Final = (
    f"{_PHASES} == 1 unless {_PHASES.replace('})', '} offset 1m)')} == 1 "
    f"and on () count({semconv.ROLLOUT_PHASE} offset 1m) {_OF_THE_APP}"
)
_ANNOTATIONS: Final = (
    ("A version appears", "green", f"{_SEEN} unless {_BEFORE}", "{{version}} appears"),
    ("A version is gone", "orange", f"{_BEFORE} unless {_SEEN}", "{{version}} is gone"),
    (
        "The gate decides", "red",
        f'max by (decision) ({semconv.VERDICT}{{app="$app", decision!="hold"}}) == 1 '
        f'unless max by (decision) ({semconv.VERDICT}{{app="$app", decision!="hold"}} offset 1m) == 1',
        "{{decision}}",
    ),
    ("A rollout begins", "blue", _ROLLOUTS, "{{workload}}: {{from_version}} -> {{to_version}}"),
    ("A rollout ends", "purple", _ENDS, "{{workload}}: {{phase}}"),
)  # fmt: skip
_GRAFANA: Final = {
    "name": "Rollouts, as regions",
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": False,
    "iconColor": "blue",
    "target": {"type": "tags", "tags": ["rollout", "app:$app"], "matchAny": False, "limit": 100},
}
"""What `rolloutobs watch` and `rolloutobs annotate` have written."""
_EVENTS_SOURCE: Final = "yesoreyeah-infinity-datasource"
"""The plugin Infinity, which reads JSON; without it all else is there."""
_EVENTS_ADDRESS: Final = "http://rolloutobs-watcher.rolloutobs:9109"
_COLUMNS: Final = ("time", "namespace", "workload", "kind", "text", "version", "reason", "object")


def draw(board: Board, others: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it.

    Args:
        board: what is on it.
        others: names and titles of those that it links to.
    """
    result = (
        dashboard.Dashboard(board.title)
        .uid(f"rolloutobs-{board.name}")
        .description(board.description)
        .tags(["rolloutobs", "rollout"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .variables([*_variables(board.metric), *(_event_variables() if _titles(board, Kind.EVENTS) else ())])
    )
    for name, color, expression, _ in _ANNOTATIONS:
        result.annotation(
            dashboard.AnnotationQuery().name(name).datasource(_SOURCE).icon_color(color).expr(expression)
        )
    for name, title in others:
        result.link(_link(name, title))
    for row in board.rows:
        result.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            result.with_panel(_panel(panel, row.empty or board.empty))
    drawn: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(result.build()))
    # The SDK has no field for the title; without one Grafana shows the name of the metric, and there is none.
    for annotation, (_, _, _, title) in zip(drawn["annotations"]["list"], _ANNOTATIONS, strict=True):
        annotation.update({"titleFormat": title, "textFormat": title, "step": "30s"})
    drawn["annotations"]["list"].append(_GRAFANA)
    for number, panel in enumerate(drawn["panels"], start=1):
        panel["id"] = number
        if panel["title"] in _titles(board, Kind.EVENTS):
            panel.update(_events())
    filled: dict[str, Any] = _without_nulls(drawn)
    return filled


def _titles(board: Board, kind: Kind) -> set[str]:
    return {panel.title for row in board.rows for panel in row.panels if panel.kind is kind}


def _event_variables() -> list[Any]:
    return [
        dashboard.DatasourceVariable("events").label("Infinity").type(_EVENTS_SOURCE),
        dashboard.TextBoxVariable("watcher").label("watcher").default_value(_EVENTS_ADDRESS),
    ]


def _events() -> dict[str, Any]:
    """Return what makes a panel the table of the watcher's events. The SDK does not know the plugin."""
    source = {"type": _EVENTS_SOURCE, "uid": "${events}"}
    query = {
        "refId": "A",
        "datasource": source,
        "type": "json",
        "source": "url",
        "format": "table",
        "parser": "backend",
        "url": "${watcher}/v1/events",
        "url_options": {
            "method": "GET",
            "params": [
                {"key": "since", "value": "${__from:date:seconds}"},
                {"key": "limit", "value": "500"},
            ],
        },
        "columns": [
            {"selector": name, "text": name, "type": "timestamp_epoch_s" if name == "time" else "string"}
            for name in _COLUMNS
        ],
    }
    chosen = {
        "fieldName": "namespace",
        "config": {"id": "regex", "options": {"value": "^(${namespace:regex})$"}},
    }
    only = {"filters": [chosen], "match": "all", "type": "include"}
    return {
        "datasource": source,
        "targets": [query],
        "transformations": [{"id": "filterByValue", "options": only}],
    }


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _variables(metric: str) -> list[Any]:
    chosen = f'{metric}{{namespace=~"$namespace", app="$app"}}'
    found: list[Any] = [dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")]
    for name, query, is_many in (
        ("namespace", f"label_values({metric}, namespace)", True),
        ("app", f"label_values({metric}, app)", False),
        ("version", f"label_values({chosen}, version)", True),
        ("track", f"label_values({chosen}, track)", True),
    ):
        variable = dashboard.QueryVariable(name).label(name).datasource(_SOURCE).query(query)
        variable.refresh(2).sort(1)  # type: ignore[arg-type]
        if is_many:
            variable.multi(True).include_all(True).all_value(".*").current(_ALL)
        found.append(variable)
    window = VariableOption(text="5m", value="5m")
    found.append(dashboard.CustomVariable("window").label("window").values(_RANGES).current(window))
    return found


def _link(name: str, title: str) -> dashboard.DashboardLink:
    # The app and the time, but no namespace: that of real users is the collector's.
    url = f"/d/rolloutobs-{name}?${{datasource:queryparam}}&${{app:queryparam}}"
    link = dashboard.DashboardLink(title.removeprefix("Rollout: ")).type(DashboardLinkType.LINK)
    return link.url(url).keep_time(True).icon("dashboard").tooltip(title)


def _panel(panel: Panel, empty: str) -> Any:
    drawn: Any = _KINDS[panel.kind]()
    drawn.title(panel.title).description(panel.description).unit(panel.unit).datasource(_SOURCE)
    drawn.span(panel.width).height(_HEIGHT).no_value(empty)
    if panel.kind is Kind.LINES:
        if not panel.is_signed:
            drawn.min(0)
        if panel.limits:
            _draw_limits(drawn, panel.limits)
        if all(query.legend == LEGEND for query in panel.queries):
            _color_tracks(drawn)
    for number, query in enumerate(panel.queries):
        drawn.with_target(_query(query, chr(ord("A") + number), at_the_end=panel.kind is Kind.TABLE))
    if panel.kind is Kind.TABLE:
        _name_columns(drawn, panel)
    return drawn


def _query(query: Query, name: str, *, at_the_end: bool) -> prometheus.Dataquery:
    result = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(name)
    if at_the_end:
        return result.instant().format(PromQueryFormat.TABLE)
    return result.range().exemplar(query.exemplars)


def _name_columns(drawn: table.Panel, panel: Panel) -> None:
    """Put all queries of a table into one, with a column each."""
    hidden = {"Time": True}
    one = len(panel.queries) == 1
    names = {"Value" if one else f"Value #{chr(ord('A') + n)}": q.legend for n, q in enumerate(panel.queries)}
    drawn.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    drawn.with_transformation(
        DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "renameByName": names})
    )


def _draw_limits(drawn: timeseries.Panel, limits: Sequence[float]) -> None:
    colors = ("green", *("yellow", "red")[-len(limits) :])
    steps = [
        Threshold(value=value, color=color) for value, color in zip((None, *limits), colors, strict=True)
    ]
    drawn.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
    drawn.thresholds_style(style)


def _color_tracks(drawn: timeseries.Panel) -> None:
    """Give each track its color on every panel; versions without one keep Grafana's."""
    for track, color in ((Track.CANARY, "orange"), (Track.STABLE, "blue"), (Track.BASELINE, "purple")):
        fixed = {"mode": "fixed", "fixedColor": color}
        drawn.override_by_regexp(f"/ {track.value}$/", [DynamicConfigValue(id_val="color", value=fixed)])


def _lines() -> timeseries.Panel:
    return timeseries.Panel().fill_opacity(0).show_points(VisibilityMode.NEVER).legend(_legend())


def _band() -> timeseries.Panel:
    drawn = _lines().axis_centered_zero(True)
    for name in ("low", "high"):
        properties = [DynamicConfigValue(id_val="custom.lineWidth", value=0)]
        if name == "high":
            properties += [
                DynamicConfigValue(id_val="custom.fillBelowTo", value="low"),
                DynamicConfigValue(id_val="custom.fillOpacity", value=20),
            ]
        drawn.override_by_name(name, properties)
    return drawn


def _legend() -> common.VizLegendOptions:
    return common.VizLegendOptions().show_legend(True).calcs(["lastNotNull"])


_KINDS: Final = {
    Kind.LINES: _lines,
    Kind.BAND: _band,
    Kind.TABLE: table.Panel,
    Kind.STATES: statetimeline.Panel,
    Kind.EVENTS: table.Panel,
}
