"""Load on both tracks at the same time with Locust, and plain users for demos: the only door to Locust.

`swarm` starts Locust as child processes and never imports it (Locust patches the whole process for gevent),
`results` judges what they measured, `user` is what runs inside Locust and is imported by locustfiles only:

    from locust import task
    from synthetic.load import RolloutUser

    class Shopper(RolloutUser):
        @task
        def browse(self):
            self.client.get("/api/products")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthetic.load.user import RolloutUser as RolloutUser

__all__ = ["RolloutUser"]


def __getattr__(name: str) -> Any:
    """Import `RolloutUser` when a locustfile asks for it, and not before."""
    if name == "RolloutUser":
        from synthetic.load.user import RolloutUser

        return RolloutUser
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
