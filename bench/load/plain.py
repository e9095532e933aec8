"""A locustfile as Locust's documentation has it: users at a constant throughput."""

import os

from locust import FastHttpUser, constant_throughput, task


class Plain(FastHttpUser):
    """Ten requests a second, if the server lets it."""

    wait_time = constant_throughput(float(os.environ["BENCH_RATE_PER_USER"]))

    @task  # type: ignore[untyped-decorator]  # locust has no types
    def ask(self) -> None:
        """Ask once."""
        self.client.get("/")
