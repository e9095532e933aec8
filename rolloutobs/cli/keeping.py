"""The state file of the gate: written whole after each look, so that a gate that is killed can go on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rolloutobs.analysis.gate import Gate
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.saved import Saved, from_mapping, to_mapping
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import StateError

__all__ = ["StateFile"]


@dataclass(slots=True)
class StateFile:
    """One file; `failed` says why it could not be written the last time, and is empty when it could."""

    path: Path
    failed: str = ""
    failures: int = 0
    acted: tuple[str, ...] = ()
    """Decisions that commands have been run for, by this gate or one before it."""

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
            saved = from_mapping(json.loads(text))
            engine = Engine.resumed(policy, _with_deadline(saved.engine, policy))
        except (StateError, json.JSONDecodeError) as error:
            raise StateError(
                f"the state {str(self.path)!r} cannot be used: {error}; remove it to begin anew"
            ) from None
        if saved.zero is None:
            return None
        self.acted = tuple(saved.acted)
        return saved, engine

    def save(self, gate: Gate, engine: Engine) -> None:
        """Write the state; a file that cannot be written is told of and does not end the gate."""
        try:
            text = json.dumps(to_mapping(gate.saved(engine.state(), self.acted)), separators=(",", ":"))
            _write(self.path, text)
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
        plain = from_mapping(json.loads(self.path.read_text(encoding="utf-8")))
        _write(self.path, json.dumps(to_mapping(replace(plain, acted=self.acted)), separators=(",", ":")))


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
