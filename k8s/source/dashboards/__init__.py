"""Dashboards for Grafana as data.

Belongs here: rows, panels, queries. `k8s.source.dashboards.drawing` makes Grafana's JSON of them.
"""

from k8s.source.dashboards import (
    deployment_health,
    real_users,
    rollout_timeline,
    synthetic,
    version_comparison,
)
from k8s.source.dashboards.model import Board

__all__ = ["BOARDS"]

BOARDS: tuple[Board, ...] = (
    version_comparison.BOARD,
    real_users.BOARD,
    synthetic.BOARD,
    deployment_health.BOARD,
    rollout_timeline.BOARD,
)
"""All of them."""
