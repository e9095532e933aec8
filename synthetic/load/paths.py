"""A locustfile for loads without one: users who ask for the paths that ``--get`` names, each as likely.

Locust imports it by its path, and workers get its text from their master.
"""

import random

from locust import constant, task

from synthetic.load import RolloutUser
from synthetic.load.site import site


class Visitor(RolloutUser):
    """Asks for one path in each task."""

    wait_time = constant(1)

    @task  # type: ignore[untyped-decorator]  # locust has no types
    def ask(self) -> None:
        """Ask for one of the paths."""
        self.client.get(random.choice(site.orders.paths or ("/",)))
