"""The state file of the gate: written whole after each look, so that a gate that is killed can go on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rolloutobs.analysis.gate import Gate
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.saved import Saved, from_mapping, to_mapping
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import StateError

__all__ = ["StateFile"]

_BAKE: Final = "bake"


@dataclass(slots=True)
class StateFile:
    """One file; `failed` says why it could not be written the last time, and is empty when it could.

    A bake is kept beside the rollout that it belongs to.
    """

    path: Path
    failed: str = ""
    failures: int = 0
    acted: tuple[str, ...] = ()
    """Decisions that commands have been run for, by this gate or one before it."""
    _rollout: dict[str, Any] = field(default_factory=dict)
    """What was last saved of the rollout."""
    _bake: dict[str, Any] | None = None
    """The same of its bake."""
    _is_baking: bool = False

    def load(self, policy: Policy) -> tuple[Saved, Engine] | None:
        """Return where the last gate ended; ``None``: there is no file, or its canary had no traffic yet.

        The deadline may have changed since: no evidence depends on it.

        Raises:
            StateError: the file is damaged, or of another policy or version.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StateError(f"cannot read the state {str(self.path)!r}: {error}") from None
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise self._unusable(error) from None
        saved, engine = self._resumed(plain, policy)
        if saved.zero is None:
            return None
        self.acted = tuple(saved.acted)
        self._rollout, self._bake = plain, plain.pop(_BAKE, None)
        return saved, engine

    def begin(self) -> None:
        """Forget the rollout that was loaded: another one has begun."""
        self._rollout, self._bake, self.acted = {}, None, ()

    def load_bake(self, policy: Policy) -> tuple[Saved, Engine] | None:
        """Return where the bake of the rollout that was loaded ended; ``None``: it has not begun.

        From now on it is the bake that is saved.

        Raises:
            StateError: it is damaged, or of another policy.
        """
        self._is_baking = True
        return self._resumed(self._bake, policy) if self._bake else None

    def _resumed(self, plain: Any, policy: Policy) -> tuple[Saved, Engine]:
        try:
            saved = from_mapping(plain)
            return saved, Engine.resumed(policy, _with_deadline(saved.engine, policy))
        except StateError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> StateError:
        return StateError(f"the state {str(self.path)!r} cannot be used: {error}; remove it to begin anew")

    def save(self, gate: Gate, engine: Engine) -> None:
        """Write the state; a file that cannot be written is told of and does not end the gate."""
        found = to_mapping(gate.saved(engine.state(), self.acted))
        if self._is_baking:
            self._bake = found
        else:
            self._rollout = found
        try:
            self._write()
        except OSError as error:
            self.failed = f"the state cannot be written: {error}"
            self.failures += 1
        else:
            self.failed = ""

    def note(self, decision: str) -> None:
        """Remember, in the file too, that commands have been run for `decision`.

        Raises:
            OSError: the file cannot be written.
        """
        self.acted = (*self.acted, decision)
        self._write()

    def _write(self) -> None:
        plain = {**self._rollout, "acted": list(self.acted)}
        if self._bake:
            plain[_BAKE] = self._bake
        _write(self.path, json.dumps(plain, separators=(",", ":")))


def _with_deadline(state: Any, policy: Policy) -> Any:
    saved = state.get("policy")
    if not isinstance(saved, dict):
        return state
    return {**state, "policy": {**saved, "deadline_seconds": policy.deadline_seconds}}


def _write(path: Path, text: str) -> None:
    """Write so that a reader, and a machine that loses power, has the old state or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
