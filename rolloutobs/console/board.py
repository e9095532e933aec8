"""What is known of every workload, for the thread that looks and the one that answers.

Everything on it is immutable and replaced as a whole under one lock, which is held for no longer than that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from rolloutobs.analysis.guardrails import Guardrails
from rolloutobs.console.failures import Failures
from rolloutobs.console.model import (
    Happening,
    Key,
    Overriding,
    Rollout,
    RolloutOverError,
    Seen,
    Status,
    Workload,
)
from rolloutobs.console.rollouts import begun, ended, is_another, is_stale, replaced
from rolloutobs.console.standing import Answer, Hook, answer, standing

__all__ = ["QUIET_SECONDS", "Archive", "Board", "Kept"]

_HAPPENINGS: Final = 60
"""Lines of a workload's log that are kept."""

QUIET_SECONDS: Final = 7.0 * 86400.0
"""How long a workload without an entry of its own is kept after its last rollout."""

Kept = tuple[Rollout, tuple[Happening, ...]]
"""What has to survive a restart."""


class Archive(Protocol):
    """Keeps what must survive a restart."""

    def load(self, key: Key) -> Kept | None:
        """Return what was kept; ``None``: nothing."""

    def drop(self, key: Key) -> None:
        """Forget what was kept."""

    def save(self, key: Key, kept: Kept) -> str:
        """Keep it; return why that was not possible, or the empty string."""


class Board:
    """All workloads.

    Args:
        archive: keeps rollouts and logs; ``None``: they end with the process.
        clock: Unix time.
        log: is told everything that happens.
        failures: counts.
        annotated: returns what is written on a workload in the cluster, as it is known now.
    """

    def __init__(
        self,
        archive: Archive | None,
        clock: Callable[[], float],
        log: Callable[[Status, Happening], None] = lambda status, happening: None,
        failures: Failures | None = None,
        annotated: Callable[[Key], Guardrails] = lambda key: Guardrails(),
    ) -> None:
        self._archive, self._clock, self._log = archive, clock, log
        self._annotated = annotated
        self._failures = failures or Failures()
        self.changed: Callable[[Key], None] = lambda key: None
        """Called with the key of a workload that is to be followed anew; whoever follows sets it."""
        self.weighed: Callable[[Status, bool], None] = lambda status, is_news: None
        """Called after each look, and after what a person or a controller decided, with whether it is news;
        must be quick. Whoever sends traces sets it."""
        self._lock = threading.RLock()
        self._statuses: dict[Key, Status] = {}
        self._began = clock()
        self._asked: dict[Key, float] = {}
        """When somebody last asked about a workload's rollout by its id."""
        self.unsaved = ""
        """Why the last change could not be kept; empty: it was."""

    # --- who is there --------------------------------------------------------------------------------------

    def get(self, key: Key) -> Status | None:
        """Return what is known of a workload; ``None``: there is no such workload."""
        return self._statuses.get(key)

    def all(self) -> list[Status]:
        """Return what is known of all, by namespace and name."""
        # Without the lock, under which files are written: copying a dict is one step.
        return [status for _, status in sorted(self._statuses.copy().items())]

    def put(self, workload: Workload) -> None:
        """Add a workload, or give it other settings."""
        with self._lock:
            old = self._statuses.get(workload.key)
            if old is not None and old.workload == workload:
                return
            if old is None:
                self._statuses[workload.key] = self._loaded(workload)
            else:
                self._statuses[workload.key] = replace(old, workload=workload, trouble="")
                self._happened(workload.key, "settings", "its entry in the file has changed")
        self.changed(workload.key)

    def guard(self) -> None:
        """Take over what is written on the workloads now."""
        for key in list(self._statuses):
            with self._lock:
                status = self._statuses.get(key)
                rails = self._annotated(key)
                if status is None or status.annotated == rails:
                    continue
                self._statuses[key] = replace(status, annotated=rails)
                why = f" ({rails.why})" if rails.why else ""
                self._happened(
                    key, "settings", f"its annotations say that rolling back is {rails.rollback}{why}"
                )
                self._weigh(key)

    def remove(self, keys: Iterable[Key]) -> None:
        """Forget workloads; what was kept of them stays where it is."""
        for key in list(keys):
            with self._lock:
                gone = self._statuses.pop(key, None)
                self._asked.pop(key, None)
            if gone is not None:
                self.changed(key)

    def drop_quiet(self) -> list[Key]:
        """Forget, with all that was kept, workloads without an entry that have had no rollout for a week, and
        return which: environments come and go. Whoever asks for one brings it back."""
        before = self._clock() - QUIET_SECONDS
        dropped = []
        for key in list(self._statuses):
            with self._lock:
                status = self._statuses.get(key)
                since = status.quiet_since if status and not status.workload.is_listed else None
                if since is None or since >= before:
                    continue
                del self._statuses[key]
                self._asked.pop(key, None)
                if self._archive:
                    self._archive.drop(key)
            self.changed(key)
            dropped.append(key)
        return dropped

    def _loaded(self, workload: Workload) -> Status:
        kept = self._archive.load(workload.key) if self._archive else None
        rollout, happenings = kept or (Rollout(1, 0.0, "nothing was known before"), ())
        return Status(workload, rollout, happenings=happenings, annotated=self._annotated(workload.key))

    # --- what is seen --------------------------------------------------------------------------------------

    def tell(self, key: Key, number: int, seen: Seen) -> Rollout | None:
        """Take in a finished look at rollout `number`; return the rollout as it is now, ``None``: it is not
        watched any more, and what was seen of it counts for nothing."""
        with self._lock:
            status = self._statuses.get(key)
            if status is None or status.rollout.number != number:
                return None
            if not seen.answered:
                self._failures.count("look")
            rollout = replace(status.rollout, gone_since=seen.gone_since)
            self._statuses[key] = replace(
                status,
                seen=seen,
                rollout=rollout,
                answered=seen.at if seen.answered else status.answered,
                trouble="",
                looks=status.looks + 1,
                failed_reads=status.failed_reads + len(seen.failed),
            )
            if status.trouble:
                self._happened(key, "trouble", "it can be looked at again")
            if not self._weigh(key) and rollout != status.rollout:
                self._save(key)
            return self._statuses[key].rollout

    def fail(self, key: Key, number: int, reason: str) -> None:
        """Note that rollout `number` cannot be followed."""
        with self._lock:
            status = self._statuses.get(key)
            if status is None or status.rollout.number != number:
                return
            self._failures.count("look")
            if status.trouble == reason:
                return
            self._statuses[key] = replace(status, trouble=reason)
            self._happened(key, "trouble", reason)

    def over(self, key: Key, number: int, over: RolloutOverError) -> None:
        """Begin another rollout than `number`, or the same one anew."""
        with self._lock:
            status = self._statuses.get(key)
            if status is None or status.rollout.number != number:
                return
            last, why = status.rollout, str(over)
            again = replace(last, number=number + 1, why=why)
            self._begin(key, again if over.is_same else begun(last, over.since, why))

    # --- what callers say ----------------------------------------------------------------------------------

    def speak_of(self, key: Key, id_: str, hook: Hook | None = None) -> Status | None:
        """Return what is known of the rollout that a caller names: another one begins, or this one gets its
        name. One that has been replaced is over, whoever goes on asking."""
        with self._lock:
            status = self._statuses.get(key)
            if status is None:
                return None
            now = self._clock()
            if is_stale(status.rollout, id_, now - self._asked.get(key, self._began), hook):
                return replace(status, rollout=replaced(status.rollout, id_), seen=None)
            if id_:
                self._asked[key] = now
            if is_another(status.rollout, status.seen, id_, hook):
                why = f"{hook.value if hook else 'the verdict'} was asked for with another rollout's id"
                self._begin(key, begun(status.rollout, now, why, id_))
            elif id_ and not status.rollout.id:
                self._set(key, replace(status.rollout, id=id_))
            return self._statuses[key]

    def hook(self, key: Key, hook: Hook, id_: str, phase: str, message: str) -> Answer | None:
        """Answer one of Flagger's webhooks; ``None``: there is no such workload."""
        with self._lock:
            status = self.speak_of(key, id_, hook) if hook.is_of_a_rollout else self.get(key)
            if status is None:
                return None
            found = answer(hook, status, self._clock())
            rollout = status.rollout
            if found.is_first_step:
                self._set(key, replace(rollout, first_step=self._clock()))
                self._happened(key, "flagger", found.text)
            elif not hook.is_of_a_rollout:
                self._noted(key, ended(rollout, phase, id_), phase, message)
            return found

    def _noted(self, key: Key, rollout: Rollout, phase: str, message: str) -> None:
        is_end = rollout.phase != self._statuses[key].rollout.phase
        if is_end:
            self._set(key, rollout)
        if message or is_end:
            self._happened(key, "over" if is_end else "flagger", message or f"Flagger says: {phase}")
        if is_end:
            self._weigh(key, is_told=True)

    def override(self, key: Key, overriding: Overriding | None, by: str, reason: str) -> Status | None:
        """Let a person decide, or take that back (``None``); return what is known then, ``None``: there is no
        such workload."""
        with self._lock:
            status = self._statuses.get(key)
            if status is None:
                return None
            word = overriding.decision.value if overriding else "no override any more"
            self._set(key, replace(status.rollout, overriding=overriding))
            self._happened(key, "override", f"{word}: {reason}", by)
            self._weigh(key, is_told=True)
            return self._statuses[key]

    def traced(self, key: Key, number: int, word: str, at: float) -> None:
        """Note that the trace of rollout `number` has a decision, taken at `at`."""
        with self._lock:
            status = self._statuses.get(key)
            if status is not None and status.rollout.number == number:
                self._set(key, replace(status.rollout, traced=word, traced_at=at))

    # --- inside the lock -----------------------------------------------------------------------------------

    def _begin(self, key: Key, rollout: Rollout) -> None:
        self._statuses[key] = replace(self._statuses[key], rollout=rollout, seen=None)
        self._happened(key, "began", rollout.why)
        self.changed(key)

    def _set(self, key: Key, rollout: Rollout) -> None:
        self._statuses[key] = replace(self._statuses[key], rollout=rollout)
        self._save(key)

    def _weigh(self, key: Key, *, is_told: bool = False) -> bool:
        """Log what holds now where that is news, unless it `is_told` by something else; return whether it
        is."""
        status = self._statuses[key]
        found = standing(status, self._clock())
        is_news = bool(found.word) and found.word != status.rollout.judged
        if is_news:
            self._statuses[key] = replace(status, rollout=replace(status.rollout, judged=found.word))
            if is_told:
                self._save(key)
            else:
                self._happened(key, "verdict", found.sentence)
        self.weighed(self._statuses[key], is_news or is_told)
        return is_news

    def _happened(self, key: Key, kind: str, text: str, by: str = "") -> None:
        status = self._statuses[key]
        line = Happening(self._clock(), kind, text, by)
        self._statuses[key] = replace(status, happenings=(*status.happenings, line)[-_HAPPENINGS:])
        self._save(key)
        self._log(self._statuses[key], line)

    def _save(self, key: Key) -> None:
        if self._archive:
            status = self._statuses[key]
            self.unsaved = self._archive.save(key, (status.rollout, status.happenings))
            if self.unsaved:
                self._failures.count("state")
