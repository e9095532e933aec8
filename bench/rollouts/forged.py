"""Page views of which somebody forges some: what they lead to if nobody vouches for views, if tokens do, and
if everybody is believed.

50 views a second, 5 % of them of the canary's pages, 0.5 % with a JavaScript error, from 16 groups of
networks of uneven size; the forger posts views with errors of the canary for 2 minutes from second 150 on.
Requests to the servers are without fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench.rollouts.cells import VIEWS_PER_SECOND
from rolloutobs.analysis.model import PairCount, Tick
from rolloutobs.analysis.policy import Policy, RealUsers

__all__ = ["FORGED", "TRUSTS", "Views", "policy_of", "view_ticks"]

_VIEWS, _SIGNED = "js_errors", "js_errors_signed"
_PAGE = (("route", "/"),)
_SHARE, _RATE = 0.05, 0.005
_TICK = 15.0
_FROM, _UNTIL = 150.0, 270.0
_SIZES = 1.0 / np.arange(1, 17)
_SIZES /= _SIZES.sum()

TRUSTS = ("unsigned", "signed", "anyone")
"""Whose views may roll back: nobody's (they come without tokens), those with a token, or all."""


@dataclass(frozen=True, slots=True)
class Views:
    """The truth: the canary's own rate of errors, and how many views are forged, from how many groups."""

    canary: float = _RATE
    forged: int = 0
    groups: int = 1


FORGED: Mapping[str, Views] = {
    "views_good": Views(),
    "forged_25_of_1": Views(forged=25),
    "forged_100_of_1": Views(forged=100),
    "forged_25_of_5": Views(forged=25, groups=5),
    "views_0.5to2": Views(canary=0.02),
    "views_0.5to5": Views(canary=0.05),
}


def policy_of(trust: str) -> Policy:
    """Return the policy that trusts those, on errors of servers and of pages."""
    policy = Policy(alpha=0.05, promote_alpha=0.05).only("errors", _VIEWS)
    return replace(policy, real_users=RealUsers.ROLLBACK if trust == "anyone" else RealUsers.SIGNED)


def view_ticks(views: Views, trust: str, rng: np.random.Generator) -> Iterator[Tick]:
    """Yield half an hour, and 10 minutes of stable's past before it."""
    for i in range(-40, 120):
        start = i * _TICK
        exposed = VIEWS_PER_SECOND * _TICK * _SIZES
        n_c = rng.poisson(exposed * _SHARE) if i >= 0 else np.zeros(len(_SIZES), dtype=int)
        n_s = rng.poisson(exposed * (1.0 - _SHARE))
        k_c, k_s = rng.binomial(n_c, views.canary), rng.binomial(n_s, _RATE)
        if _FROM <= start < _UNTIL and views.forged:
            each = views.forged * _TICK / (_UNTIL - _FROM)
            # Forgers are strangers: their groups are not those of the most visitors.
            more = rng.multinomial(rng.poisson(each), np.full(views.groups, 1.0 / views.groups))
            where = np.arange(len(_SIZES))[-views.groups :]
            k_c[where], n_c[where] = k_c[where] + more, n_c[where] + more
        groups = {
            f"{g:02}": PairCount(int(k_c[g]), int(n_c[g]), int(k_s[g]), int(n_s[g]))
            for g in range(len(_SIZES))
        }
        total = PairCount(int(k_c.sum()), int(n_c.sum()), int(k_s.sum()), int(n_s.sum()))
        requests = PairCount(0, 50 if i >= 0 else 0, 5, 950)
        counts = {"errors": {_PAGE: requests}, _VIEWS: {_PAGE: total}}
        if trust == "signed":
            counts[_SIGNED] = {_PAGE: total}
        yield Tick(
            start, start + _TICK, counts=counts, sources={_SIGNED: groups} if trust == "signed" else {}
        )
