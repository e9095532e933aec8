"""The folder in which rollouts and their logs survive a restart.

Beside the gate's own state of each (`NAMESPACE/NAME.json`) there is one small file,
``NAMESPACE/NAME.rollout.json``. Evidence is only in the first, and of use only with the second.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rolloutobs.analysis.model import Decision
from rolloutobs.console.board import Kept
from rolloutobs.console.model import Happening, Key, Overriding, Rollout
from rolloutobs.errors import ConfigurationError

__all__ = ["FORMAT", "Folder"]

FORMAT: Final = 1
"""Goes up with every change that files written before do not fit."""
_SUFFIX: Final = ".rollout.json"


class Folder:
    """An `Archive` in a folder.

    Args:
        path: the folder; it has to be there.

    Raises:
        ConfigurationError: it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir() or not os.access(path, os.W_OK):
            raise ConfigurationError(f"the state folder {str(path)!r} is not there, or cannot be written to")
        self._path = path

    def state_file(self, key: Key, number: int) -> Path:
        """Return where the gate's state of a rollout belongs; those of earlier ones are removed."""
        folder = self._path / key[0]
        folder.mkdir(exist_ok=True)
        wanted = folder / f"{key[1]}.{number}.json"
        for each in folder.glob(f"{key[1]}.*.json"):
            if each != wanted and each.name.removeprefix(f"{key[1]}.").removesuffix(".json").isdigit():
                each.unlink(missing_ok=True)
        return wanted

    def keys(self) -> Iterator[Key]:
        """Yield the workloads of which something is kept, first the one that something last happened to."""
        for path in sorted(self._path.glob(f"*/*{_SUFFIX}"), key=lambda each: -each.stat().st_mtime):
            yield path.parent.name, path.name.removesuffix(_SUFFIX)

    def drop(self, key: Key) -> None:
        """Remove what was kept of a workload; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            self._file(key).unlink(missing_ok=True)
            for number in list(self._numbers(key)):
                (self._path / key[0] / f"{key[1]}.{number}.json").unlink(missing_ok=True)
            # Only an empty one goes.
            self._file(key).parent.rmdir()

    def load(self, key: Key) -> Kept | None:
        """Return what was kept; a file that is damaged is told of in the log that it returns."""
        path = self._file(key)
        try:
            return _read(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            why = f"{path.name} is not there any more; begun anew"
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"what was kept in {path.name} cannot be read ({error}); begun anew"
        # The evidence that belonged to it is of a rollout that nobody knows any more.
        highest = max((int(n) for n in self._numbers(key)), default=0)
        return (Rollout(highest + 1, 0.0, why), ()) if highest or path.exists() else None

    def save(self, key: Key, kept: Kept) -> str:
        """Write it so that a machine that loses power has the old or the new; return why it could not."""
        path = self._file(key)
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                json.dump(_written(kept), file, separators=(",", ":"))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            return f"the state cannot be written: {error}"
        return ""

    def _file(self, key: Key) -> Path:
        return self._path / key[0] / f"{key[1]}{_SUFFIX}"

    def _numbers(self, key: Key) -> Iterator[str]:
        for each in (self._path / key[0]).glob(f"{key[1]}.*.json"):
            number = each.name.removeprefix(f"{key[1]}.").removesuffix(".json")
            if number.isdigit():
                yield number


def _written(kept: Kept) -> dict[str, Any]:
    rollout, happenings = kept
    return {"serve": FORMAT, "rollout": asdict(rollout), "happenings": [asdict(each) for each in happenings]}


def _read(plain: Mapping[str, Any]) -> Kept:
    if plain["serve"] != FORMAT:
        raise ValueError(f"its format is {plain['serve']!r}, this version writes {FORMAT}")
    rollout = dict(plain["rollout"])
    overriding = rollout.pop("overriding")
    past = tuple(map(str, rollout.pop("past", ())))
    if overriding is not None:
        overriding = Overriding(**{**overriding, "decision": Decision(overriding["decision"])})
    return (
        Rollout(**rollout, overriding=overriding, past=past),
        tuple(Happening(**each) for each in plain["happenings"]),
    )
