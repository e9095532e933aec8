"""The seven stories of the demo, simulated with the demo's own policy at the demo's own scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.simulate import Ending, Mixture, Route, Stream, World, route, run, strata
from rolloutobs import semconv
from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.policy import Policy

POLICY = Path(__file__).parents[3] / "examples" / "demo" / "policy.yaml"
SEEDS = range(4)

QUICK: Mixture = ((0.98, 0.012, 0.5), (0.02, 0.050, 0.5))
SOMETIMES_SLOW: Mixture = ((0.88, 0.012, 0.5), (0.02, 0.050, 0.5), (0.10, 0.412, 0.1))

HOME = Route(route("GET", "/"), 0.05, errors=0.0, latency=QUICK)
CATALOG = Route(route("GET", "/catalog"), 0.20, errors=0.002, latency=QUICK)
PRODUCT = Route(route("GET", "/product/{product_id}"), 0.40, errors=0.002, latency=QUICK)
CART = Route(route("POST", "/cart"), 0.20, errors=0.002, latency=QUICK)
CHECKOUT = Route(route("POST", "/checkout"), 0.15, errors=0.02, latency=QUICK)
SHOP = (HOME, CATALOG, PRODUCT, CART, CHECKOUT)

PAGE = strata(route="/")
VIEWS = Stream("js_errors", PAGE, 1.5, 0.0)
PAID = Stream("conversions", PAGE, 1.5, 0.9)
CHECKED = Stream("journey", strata(check="checkout"), 0.33, 0.0, paired=True)

WORLD = World(
    rps=60.0,
    share=0.4,
    routes=SHOP,
    streams=(VIEWS, PAID, CHECKED),
    bounds=semconv.DURATION_BOUNDS,
    tick_seconds=1.0,
    past_seconds=20.0,
    seconds=110.0,
    pods=2,
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.from_mapping(yaml.safe_load(POLICY.read_text(encoding="utf-8")))


def with_routes(**changes: object) -> World:
    return World(**{**{name: getattr(WORLD, name) for name in World.__dataclass_fields__}, **changes})


def tell(policy: Policy, world: World) -> list[Ending]:
    return [run(policy, world, seed, explain=True) for seed in SEEDS]


def test_errors_of_one_route_roll_back_and_name_it(policy: Policy) -> None:
    bad = Route(CHECKOUT.stratum, 0.15, errors=0.02, canary_errors=0.15, latency=QUICK)
    for ending in tell(policy, with_routes(routes=(*SHOP[:4], bad))):
        assert ending.decision is Decision.ROLLBACK, ending
        assert ending.seconds <= 70.0
        assert "canary 1.2.0 answers 5xx on POST /checkout" in ending.reason


def test_good_canary_is_promoted(policy: Policy) -> None:
    for ending in tell(policy, WORLD):
        assert ending.decision is Decision.PROMOTE, ending
        assert ending.seconds <= 90.0


def test_slow_tail_of_one_route_rolls_back(policy: Policy) -> None:
    bad = Route(PRODUCT.stratum, 0.40, errors=0.002, latency=QUICK, canary_latency=SOMETIMES_SLOW)
    for ending in tell(policy, with_routes(routes=(HOME, CATALOG, bad, CART, CHECKOUT))):
        assert ending.decision is Decision.ROLLBACK, ending
        assert ending.seconds <= 60.0
        assert "takes longer than" in ending.reason
        assert "GET /product/{product_id}" in ending.reason


def test_broken_frontend_rolls_back_on_a_few_page_views(policy: Policy) -> None:
    broken = (Stream("js_errors", PAGE, 1.5, 0.0, 1.0), PAID, CHECKED)
    for ending in tell(policy, with_routes(streams=broken)):
        assert ending.decision is Decision.ROLLBACK, ending
        assert ending.seconds <= 75.0
        assert "throws JavaScript errors in the browser on /" in ending.reason


def test_a_chunk_that_stable_does_not_have_rolls_back_for_what_could_not_be_loaded(policy: Policy) -> None:
    missing = (VIEWS, Stream("resource_errors", PAGE, 1.5, 0.0, 1.0), PAID, CHECKED)
    for ending in tell(policy, with_routes(streams=missing)):
        assert ending.decision is Decision.ROLLBACK, ending
        assert ending.seconds <= 75.0
        assert "canary 1.2.0 fails to load parts of pages on /" in ending.reason


def test_trickle_holds_and_says_how_much_more_it_needs(policy: Policy) -> None:
    for ending in tell(policy, with_routes(share=0.008, seconds=45.0)):
        assert ending.decision is Decision.HOLD, ending
        assert "more requests are needed" in ending.reason
        assert "at the present rate" in ending.reason


def test_shared_dependency_holds_and_does_not_blame_the_canary(policy: Policy) -> None:
    for ending in tell(policy, with_routes(shared_at=10.0, shared_errors=0.3, seconds=60.0)):
        assert ending.decision is Decision.HOLD, ending
        assert "stable 1.1.0 itself is worse than its own past" in ending.reason
        assert "canary 1.2.0 is not to blame" in ending.reason
