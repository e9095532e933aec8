"""Faults of the shop, switched on by the environment.

| variable | meaning | example |
|---|---|---|
| `SHOP_ERRORS` | share of requests that answer 500, by route | `POST /checkout=0.2` |
| `SHOP_SLOW` | share of requests that wait, and how many seconds, by route | `GET /product/{id}=0.1:0.4` |
| `SHOP_BROKEN_FRONTEND` | the page's script throws when a visitor checks out | `1` |
| `SHOP_PAYMENT_ERRORS` | share of checkouts that fail in every version; 2 % by default | `0` |
| `INVENTORY_ERRORS` | share of requests that the inventory answers with 503 | `0.4` |
| `INVENTORY_ERRORS_ONCE` | a file: it does so once that exists | `/tmp/inventory-fails` |

Several routes are separated by commas.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Faults", "ShopError"]


class ShopError(RuntimeError):
    """The fault that a version brings along."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Which routes fail and which are slow; both keyed by ``"METHOD /route"``."""

    errors: Mapping[str, float] = field(default_factory=dict)
    """Share of requests from 0 to 1."""
    slow: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Share of requests from 0 to 1, and the seconds they wait."""
    broken_frontend: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Faults:
        """Read the faults from `environ`.

        Raises:
            ValueError: a share or a number of seconds is no number.
        """
        slow = {}
        for route, setting in _by_route(environ.get("SHOP_SLOW", "")).items():
            share, _, seconds = setting.partition(":")
            slow[route] = (float(share), float(seconds))
        errors = {route: float(share) for route, share in _by_route(environ.get("SHOP_ERRORS", "")).items()}
        return cls(errors, slow, environ.get("SHOP_BROKEN_FRONTEND", "") not in ("", "0"))

    async def strike(self, route: str) -> None:
        """Wait or raise, if `route` has drawn a fault this time.

        Raises:
            ShopError: this request is one of those that fail.
        """
        share, seconds = self.slow.get(route, (0.0, 0.0))
        if random.random() < share:
            await asyncio.sleep(seconds)
        if random.random() < self.errors.get(route, 0.0):
            raise ShopError(f"{route} failed on purpose")


def _by_route(text: str) -> dict[str, str]:
    entries = (entry.rpartition("=") for entry in text.split(",") if entry.strip())
    return {route.strip(): setting.strip() for route, _, setting in entries}
