"""Follows one rollout of a workload for ``rolloutobs serve``: the gate that never ends, and its state."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from rolloutobs.analysis.gate import Gate, GateSettings, Look, RolloutChangedError
from rolloutobs.analysis.model import Decision, Reading, Source
from rolloutobs.analysis.saved import Saved
from rolloutobs.analysis.verdict import Engine
from rolloutobs.analysis.weights import Weighted
from rolloutobs.cli.keeping import StateFile
from rolloutobs.cli.options import read_policy
from rolloutobs.cli.sources import open_source, weight_of
from rolloutobs.cli.watching import Watch, gap, past_or_why, ticker_of
from rolloutobs.console.keeping import Folder
from rolloutobs.console.model import Rollout, RolloutOverError, Seen, Workload
from rolloutobs.console.presence import Presence
from rolloutobs.errors import StateError

__all__ = ["Follower"]

_LOOK_BACK_SECONDS: Final = 1800.0

Tell = Callable[[Seen], Rollout]


class Follower:
    """Follows rollouts, a bounded number of them reading at once.

    Args:
        folder: where the gates' states are kept; ``None``: nowhere.
        parallel: how many may read at once.
    """

    def __init__(self, folder: Folder | None, parallel: int) -> None:
        self._folder = folder
        self._reading = asyncio.Semaphore(parallel)

    async def __call__(self, workload: Workload, rollout: Rollout, tell: Tell, stop: asyncio.Event) -> None:
        """Look until `stop` is set.

        Raises:
            RolloutOverError: it is another rollout by now.
            RolloutobsError: it cannot be followed.
        """
        arguments = Namespace(**workload.options)
        wanted = self._wanted(workload, rollout, arguments)
        before = _before(wanted, rollout)
        ticker = ticker_of(wanted, before)
        engine = before[1] if before else Engine(wanted.policy)
        timeout = arguments.timeout or min(max(workload.interval_seconds, 2.0), 5.0)
        async with open_source(arguments, ticker.metrics, timeout, ticker.needs) as source:
            async with self._reading:
                past, unread = await past_or_why(source, arguments.prometheus, wanted, before)
            weighted = Weighted(source, wanted.weight) if wanted.weight else source
            present = _Present(
                weighted, self._reading, Presence(rollout, before[0].canary_version if before else "")
            )

            def observed(look: Look) -> None:
                if wanted.state and ticker.zero is not None:
                    wanted.state.save(gate, engine)
                failed = wanted.state.failed if wanted.state else ""
                notes = (*gap(arguments, before), *unread, *([failed] if failed else []))
                report = gate.report()
                report = replace(report, notes=(*notes, *report.notes))
                present.rollout_is(tell(present.seen(look, report)), look)

            gate = Gate(present, ticker, engine, wanted.settings, observer=observed)
            if before:
                gate.resume(before[0], engine.verdict() if before[0].decision else None)
            try:
                await gate.run(stop, past)
            except RolloutChangedError as change:
                raise RolloutOverError(str(change), before[0].at if before else rollout.began) from None

    def _wanted(self, workload: Workload, rollout: Rollout, arguments: Namespace) -> Watch:
        policy = read_policy(arguments.policy, "serve", arguments.metrics)
        state = self._folder.state_file(workload.key, rollout.number) if self._folder else None
        settings = GateSettings(
            workload.app,
            workload.interval_seconds,
            policy.deadline_seconds,
            # A source that is away is waited for, and a promotion is looked at on.
            only_rollback=True,
            is_endless=True,
        )
        return Watch(
            policy,
            settings,
            look_back_seconds=max(policy.past.minimum_seconds, _LOOK_BACK_SECONDS),
            state=StateFile(state) if state else None,
            weight=weight_of(arguments),
            since=rollout.began,
        )


def _before(wanted: Watch, rollout: Rollout) -> tuple[Saved, Engine] | None:
    if wanted.state is None:
        return None
    try:
        return wanted.state.load(wanted.policy)
    except StateError as error:
        raise RolloutOverError(f"the evidence is begun anew: {error}", rollout.began, is_same=True) from None


class _Present:
    """A source that knows whether the canary is there, and waits for its turn to read."""

    def __init__(self, source: Source, turn: asyncio.Semaphore, presence: Presence) -> None:
        self._source, self._turn, self._presence = source, turn, presence
        self._last = Reading(0.0, {})
        self._is_decided = False

    async def read(self) -> Reading:
        async with self._turn:
            self._last = await self._source.read()
        self._presence.note(self._last, is_decided=self._is_decided)
        return self._last

    def seen(self, look: Look, report: object) -> Seen:
        last = self._last
        return Seen(
            at=last.at,
            report=report,  # type: ignore[arg-type]
            has_canary=self._presence.has_canary,
            gone_since=self._presence.gone_since,
            answered=bool(last.targets) or not last.failed,
            failed=tuple(f"{name}: {reason}" for name, reason in sorted(look.failed.items())),
            weight=last.weight,
        )

    def rollout_is(self, rollout: Rollout, look: Look) -> None:
        """Take in what the look came to: a decided rollout's canary does not come back."""
        decided = look.verdict is not None and look.verdict.decision is not Decision.HOLD
        self._is_decided = decided or bool(rollout.phase)
