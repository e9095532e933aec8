"""Shoppers who talk to the API only: they browse, look at products, fill a cart, and most of them pay."""

from __future__ import annotations

import random

from locust import constant, task

from synthetic.load import RolloutUser


class Shopper(RolloutUser):
    """One task is one visit: a new client each time, which the router may send to either track."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator]  # locust has no types
    def shop(self) -> None:
        """Walk through the shop once."""
        self.client.cookiejar.clear()
        self.client.get("/catalog")
        for _ in range(random.randint(1, 3)):
            self.client.get(f"/product/{random.randint(1, 6)}", name="/product/{product_id}")
        product = random.randint(1, 6)
        self.client.post("/cart", json={"product": product, "quantity": 1})
        if random.random() < 0.7:
            self.client.post("/checkout", json={"lines": [{"product": product, "quantity": 1}]})
