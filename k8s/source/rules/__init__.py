"""Recording rules and alerts as data.

Belongs here: expressions, thresholds and texts. `k8s.source.files` writes them.
"""

from k8s.source.rules import app, canary, cluster, gate, real_users, recording, synthetic, telemetry, watcher
from k8s.source.rules.model import Alert, Group, Recording, Severity

__all__ = ["ALERTS", "GROUPS", "Alert", "Group", "Recording", "Severity"]

GROUPS: tuple[Group, ...] = (
    *recording.GROUPS,
    canary.GROUP,
    app.GROUP,
    cluster.GROUP,
    gate.GROUP,
    real_users.GROUP,
    synthetic.GROUP,
    telemetry.GROUP,
    watcher.GROUP,
)
"""In the order in which they are written; within a group rules are evaluated one after the other."""
ALERTS: tuple[Alert, ...] = tuple(
    [rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)]
)
"""Every alert."""
