"""The other agents, installed in this folder and bundled as a page would load them."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

__all__ = ["bundled"]

HERE = Path(__file__).parent


def bundled() -> Path:
    """Return the folder of the bundles, one per file of ``agents/``; two processes may ask at a time."""
    folder = HERE / "dist"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed, wanted = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
        # npm writes its own list last: an installation that was cut short has none.
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            subprocess.run(["npm", "ci", "--silent", "--prefer-offline"], cwd=HERE, check=True)
        subprocess.run(["node", "build.mjs", str(folder)], cwd=HERE, check=True)
    return folder
