"""Where the files of `k8s/` are: in the wheel beside this module, in a checkout at its top."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["FOLDER"]

_HERE: Final = Path(__file__).resolve().parent
_IN_WHEEL: Final = _HERE / "k8s"
FOLDER: Final = _IN_WHEEL if _IN_WHEEL.is_dir() else _HERE.parent.parent / "k8s"
"""The folder `k8s/`."""
