from __future__ import annotations

import itertools
from math import exp, log

import pytest
from scipy import stats

from rum_collector.families import describe
from rum_collector.ingest import Ingest, Sender
from rum_collector.model import Beacon
from rum_collector.settings import Settings
from rum_collector.words import Navigation, Vital

# Median in seconds and sigma of log-normal times: of desktops and mobiles, and such as have the shares of
# good and poor visits that CrUX shows for average, slow and quick origins.
SEEN = {
    Vital.LCP: ((1.2, 0.7), (1.9, 0.75), (1.48, 0.77), (2.3, 0.66), (0.62, 0.99)),
    Vital.FCP: ((0.78, 0.74), (1.235, 0.79)),
    Vital.INP: ((0.06, 0.9), (0.12, 1.0), (0.1, 1.04)),
    Vital.TTFB: ((0.35, 0.9), (0.6, 0.9)),
    Vital.LOAD: ((2.2, 0.7), (3.4, 0.75)),
}


def bounds_of(vital: Vital) -> list[float]:
    """Return the bounds that the collector itself exposes."""
    ingest = Ingest(Settings())
    beacon = Beacon("shop", "1", "", "/", False, "a", 0, Navigation.NAVIGATE, ((vital, 0.1),))
    ingest.accept(beacon, Sender())
    name = "rum_page_load_seconds" if vital is Vital.LOAD else f"rum_{vital}_seconds"
    assert name in {family[0] for family in describe()}
    return [
        float(sample.labels["le"])
        for metric in ingest.instruments.collect()
        for sample in metric.samples
        if sample.name == f"{name}_bucket" and sample.labels["le"] != "+Inf"
    ]


@pytest.mark.parametrize(
    ("vital", "median", "sigma"), [(vital, *each) for vital, seen in SEEN.items() for each in seen]
)
def test_the_75th_percentile_that_prometheus_reads_is_off_by_one_percent_at_most(
    vital: Vital, median: float, sigma: float
) -> None:
    times = stats.lognorm(sigma, scale=median)
    below, above = next(
        (low, high) for low, high in itertools.pairwise([0.0, *bounds_of(vital)]) if times.cdf(high) >= 0.75
    )
    # Source: Prometheus, histogram_quantile: linear between the bounds of the bucket.
    read = below + (above - below) * (0.75 - times.cdf(below)) / (times.cdf(above) - times.cdf(below))
    assert read == pytest.approx(times.ppf(0.75), rel=0.01)
    assert times.ppf(0.75) == pytest.approx(exp(log(median) + sigma * stats.norm.ppf(0.75)))
