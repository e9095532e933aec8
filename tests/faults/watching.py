"""What is looked at after a fault: the counter of the guard, and what it has logged."""

from __future__ import annotations

from rolloutobs.telemetry import hub


def failures() -> dict[str, float]:
    """Return how often telemetry has failed, by place; places without a failure are left out."""
    family = hub.process_failures().family
    return {values[0]: cell.value for values, cell in family.items() if cell.value}


def total(name: str, /, **labels: str) -> float:
    """Return the sum of the counters of this process with these labels, without asking ``/metrics``."""
    found = 0.0
    for each in list(hub.process_store()._families.values()):
        if each.name != name:
            continue
        for values, cell in each.items():
            has = dict(zip(each.label_names, values, strict=True))
            if all(has[key] == value for key, value in labels.items()):
                found += sum(cell.counts) if hasattr(cell, "counts") else cell.value
    return found


def told(caplog) -> list[str]:
    """Return what the guard has logged."""
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith("telemetry failed")]
