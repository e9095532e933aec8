from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rum_collector.beacon import parse_beacon
from rum_collector.ingest import Sender
from rum_collector.reception import Reception
from rum_collector.settings import Settings
from rum_collector.upkeep import Upkeep
from rum_collector.words import BeaconOutcome


def post(reception: Reception, view: str, **changes: Any) -> BeaconOutcome:
    body = {"pv": view, "app": "shop", "ver": "1.2.0", "trk": "canary", "rt": "/cart", **changes}
    return reception.ingest.accept(parse_beacon(json.dumps(body).encode()), Sender(source="03"))


def totals(reception: Reception, *names: str) -> dict[str, float]:
    found = dict.fromkeys(names, 0.0)
    for metric in reception.ingest.instruments.collect():
        for sample in metric.samples:
            if sample.name in found:
                found[sample.name] += sample.value
    return found


NAMES = (
    "rum_page_views_total",
    "rum_js_errors_total",
    "rum_lcp_seconds_count",
    "rum_source_page_views_total",
)


def test_a_successor_goes_on_with_counts_errors_repeats_and_names(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), max_routes=1)
    first = Reception(settings)
    error = {"t": "TypeError", "m": "x is null", "s": "app.js:1:2"}
    assert post(first, "a", m=[["lcp", 9]], e=[error], fe=1) is BeaconOutcome.ACCEPTED
    key = first.parts.network_key
    # As a kill does: the lock is given up, and nothing is tidied.
    first.parts.counts.stop()
    second = Reception(settings)
    assert post(second, "a", m=[["lcp", 9]]) is BeaconOutcome.DUPLICATE
    post(second, "b", m=[["lcp", 9]])
    assert totals(second, *NAMES) == dict(zip(NAMES, (2, 1, 2, 2), strict=True))
    assert second.parts.network_key == key
    (known,) = second.ingest.errors.known()
    assert (known.message, known.location) == ("TypeError: x is null", "app.js:1:2")
    # The one route that there is room for is the one that was there before.
    post(second, "c", rt="/other")
    routes = {
        sample.labels["route"]
        for metric in second.ingest.instruments.collect()
        for sample in metric.samples
        if sample.name == "rum_page_views_total"
    }
    assert routes == {"/cart", "other"}


def test_two_at_a_time_show_the_same(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    one, other = Reception(settings), Reception(settings)
    post(one, "a")
    post(other, "b", e=[{"m": "x"}], fe=1)
    assert post(other, "a") is BeaconOutcome.DUPLICATE
    for reception in (one, other):
        assert totals(reception, "rum_page_views_total") == {"rum_page_views_total": 2}
        assert totals(reception, "rum_js_error_info") == {"rum_js_error_info": 1}


def test_workers_agree_on_networks_though_one_was_killed_before_it_had_written_their_key(
    tmp_path: Path,
) -> None:
    (tmp_path / "counts").mkdir()
    (tmp_path / "counts" / "networks.key").touch(0o600)
    settings = Settings(data_dir=str(tmp_path))
    one, other = Reception(settings), Reception(settings)
    assert one.parts.network_key == other.parts.network_key
    assert len(one.parts.network_key) == 32


def test_series_that_were_dropped_give_their_room_back(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), max_versions=1, version_idle_seconds=1)
    reception = Reception(settings)
    now = [0.0]
    reception.ingest._clock = lambda: now[0]
    for number in range(50):
        now[0] += 2.0
        post(reception, str(number), ver=f"1.0.{number}", m=[["lcp", 9]], e=[{"m": "x"}], fe=1)
        Upkeep(settings, reception).look()
    assert totals(reception, "rum_page_views_total") == {"rum_page_views_total": 1}
    (file,) = (tmp_path / "counts").glob("*.cells")
    assert file.stat().st_blocks * 512 <= 2 * 65_536
    assert len(reception.ingest.errors.known()) == 1


def test_what_a_predecessor_has_counted_goes_with_its_version(tmp_path: Path) -> None:
    first = Reception(Settings(data_dir=str(tmp_path)))
    post(first, "a", ver="1.1.0", m=[["lcp", 9]])
    post(first, "b", ver="1.2.0", m=[["lcp", 9]])
    first.parts.counts.stop()
    settings = Settings(data_dir=str(tmp_path), max_versions=2, version_idle_seconds=60)
    second = Reception(settings)
    second.ingest._clock = lambda: now
    now = time.monotonic()
    post(second, "c", ver="1.2.0", m=[["lcp", 9]])
    now += 61
    post(second, "d", ver="1.2.0", m=[["lcp", 9]])
    post(second, "e", ver="1.3.0", m=[["lcp", 9]])
    Upkeep(settings, second).look()
    views = {
        sample.labels["version"]: sample.value
        for metric in second.ingest.instruments.collect()
        for sample in metric.samples
        if sample.name == "rum_page_views_total"
    }
    assert views == {"1.2.0": 3, "1.3.0": 1}
    # The files of those who have ended are still known to be in the sum.
    assert len(list((tmp_path / "counts").glob("*.cells"))) == 1


def test_a_folder_that_cannot_be_used_is_an_error_at_start_up(tmp_path: Path) -> None:
    (tmp_path / "counts").write_text("a file")
    with pytest.raises(OSError, match="counts"):
        Reception(Settings(data_dir=str(tmp_path)))
