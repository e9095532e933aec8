"""The engine's state as plain data for JSON, and back.

Belongs here: which classes a state may hold, and how their values are written. It holds no code: a state
names classes of the table below, and each must have exactly the attributes that this version's have.

Arrays are base64 of little-endian doubles (or 64-bit integers), so that what is read is what was written, bit
by bit. What a policy says is written once, and referred to.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np

from rolloutobs.analysis import judge as judges
from rolloutobs.analysis import share as shares
from rolloutobs.analysis.choice import Choice
from rolloutobs.analysis.evidence import Clip, Counts, DesignEffect, Null, Wealth
from rolloutobs.analysis.frame import Frame, Lag
from rolloutobs.analysis.intervals import RatioSequence
from rolloutobs.analysis.loading import flat
from rolloutobs.analysis.model import ResourceVerdict
from rolloutobs.analysis.networks import Networks
from rolloutobs.analysis.past import StablePast
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.resources import Process, ResourceWatch
from rolloutobs.analysis.wording import Tracks
from rolloutobs.errors import StateError

__all__ = ["FORMAT", "Keeper", "check"]

FORMAT: Final = 2
"""Goes up with every change of a class below that old states do not fit."""

_CLASSES: Final[Mapping[str, type]] = {
    each.__name__: each
    for each in (
        Choice,
        Clip,
        Counts,
        DesignEffect,
        Frame,
        Lag,
        Networks,
        Null,
        Process,
        RatioSequence,
        ResourceVerdict,
        ResourceWatch,
        StablePast,
        Tracks,
        Wealth,
        judges.Against,
        judges.Grid,
        judges.SignalJudge,
        shares.Boundary,
        shares.ShareTest,
    )
}
_CONTAINERS: Final[Mapping[type, str]] = {
    tuple: "tuple",
    list: "list",
    deque: "deque",
    dict: "dict",
    frozenset: "frozenset",
}
_DTYPES: Final = {"f": "<f8", "i": "<i8"}


def check(policy: Policy, state: object) -> None:
    """Check that `state` was saved in this format by an engine with this policy.

    Raises:
        StateError: it was not; the message names the first setting that differs.
    """
    found = state.get("format") if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or found != FORMAT:
        raise StateError(
            f"the state has the format {found!r}, this version writes {FORMAT}; begin without the state"
        )
    # Through JSON and back, as the state may have been: tuples are lists there.
    theirs, ours = (
        flat(json.loads(json.dumps(each)))
        for each in ({"policy": state.get("policy")}, {"policy": policy.to_mapping()})
    )
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key, _ABSENT) != ours.get(key, _ABSENT):
            raise StateError(
                f"the state was saved with {key} = {theirs.get(key, 'nothing')!r}, the policy has "
                f"{ours.get(key, 'nothing')!r}; resume with the same policy, or begin without the state"
            )


_ABSENT: Final = object()


class Keeper:
    """Writes and reads the values of one policy's engine.

    Args:
        policy: what objects of the engine refer to; it is never part of what `kept` returns.
    """

    def __init__(self, policy: Policy) -> None:
        shared = {
            "policy": policy,
            "past": policy.past,
            "share": policy.share,
            "resources": policy.resources,
            **{f"signal {s.name}": s for s in policy.compared},
        }
        self._objects = shared
        self._names = {id(value): name for name, value in shared.items()}

    # --- writing ------------------------------------------------------------------------------------------

    def kept(self, value: object) -> Any:
        """Return `value` as JSON: null, true, numbers and texts as they are, all else ``{kind: content}``."""
        if value is None or isinstance(value, int | str):
            return value
        if id(value) in self._names:
            return {"shared": self._names[id(value)]}
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, np.ndarray):
            return _array(value)
        kind = _CONTAINERS.get(type(value))
        return self._kept_object(value) if kind is None else {kind: self._kept_items(value, kind)}

    def _kept_items(self, value: Any, kind: str) -> list[Any]:
        if kind == "dict":
            return [[self.kept(key), self.kept(each)] for key, each in value.items()]
        items = [self.kept(each) for each in value]
        return sorted(items) if kind == "frozenset" else items

    def _kept_object(self, value: object) -> Any:
        name = type(value).__name__
        if _CLASSES.get(name) is not type(value):
            raise TypeError(f"{type(value)!r} has no place in a state; add it to the table of its classes")
        return {"object": name, "has": {key: self.kept(getattr(value, key)) for key in _attributes(value)}}

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, plain: object) -> Any:
        """Return what `kept` was given.

        Raises:
            StateError: `plain` is nothing that `kept` returns.
        """
        if plain is None or isinstance(plain, bool | int | float | str):
            return plain
        if not isinstance(plain, Mapping) or not plain:
            raise StateError(f"the state has {plain!r:.80}, which is no value of it; begin without it")
        if "object" in plain:
            return self._read_object(plain)
        kind, content = next(iter(plain.items()))
        try:
            return self._read_kind(str(kind), content)
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
            raise StateError(f"the state has a damaged {kind} ({error}); begin without it") from None

    def _read_kind(self, kind: str, content: Any) -> Any:
        if kind == "shared":
            return self._objects[content]
        if kind == "float":
            return float(content)
        if kind == "array":
            return (
                np.frombuffer(base64.b64decode(content["of"]), _DTYPES[content["type"]])
                .reshape(content["shape"])
                .copy()
            )
        if kind == "dict":
            return {self.read(key): self.read(each) for key, each in content}
        makers: dict[str, Callable[[Iterable[Any]], Any]] = {name: each for each, name in _CONTAINERS.items()}
        return makers[kind](self.read(each) for each in content)

    def _read_object(self, plain: Mapping[str, Any]) -> Any:
        kind, has = _CLASSES.get(plain["object"]), plain.get("has")
        if kind is None or not isinstance(has, Mapping):
            raise StateError(f"the state has a {plain['object']!r}, which this version does not know")
        made: object = object.__new__(kind)
        for key, each in has.items():
            object.__setattr__(made, key, self.read(each))
        return made

    def refill(self, owner: object, plain: object) -> None:
        """Give `owner`, freshly made, the attributes that `kept` found in one like it.

        Raises:
            StateError: `plain` is not of an object with the same attributes.
        """
        found = self.read(plain)
        if type(found) is not type(owner) or set(vars(found)) != set(vars(owner)):
            raise StateError(
                f"the state does not fit this version's {type(owner).__name__}; begin without it"
            )
        vars(owner).update(vars(found))


def _array(value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "b":
        raise TypeError("truth values have no place in a state")
    data = np.ascontiguousarray(value, _DTYPES[kind]).tobytes()
    return {"array": {"type": kind, "shape": list(value.shape), "of": base64.b64encode(data).decode("ascii")}}


def _attributes(value: object) -> list[str]:
    return sorted(f.name for f in fields(value)) if is_dataclass(value) else sorted(vars(value))
