"""Build hook: no wheel and no sdist without the browser script, nor with one older than its source.

The wheel also carries `k8s/`, for ``rolloutobs render``; an editable install reads it where it is.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MANIFESTS: Final = (
    "base",
    "components",
    "overlays",
    "argo-rollouts",
    "flagger",
    "flagger-metrics",
    "rules",
    "dashboards",
)
"""Folders of `k8s/` that the wheel carries; the others are code and images."""


class BrowserBundleHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs npm where the bundle is missing or stale, and adds the manifests."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle if need be; an editable install goes without.

        Raises:
            RuntimeError: the bundle is missing or stale, and there is no npm to build it.
        """
        if version == "editable":
            return
        if self.target_name == "wheel":
            build_data["force_include"].update(
                {f"k8s/{name}": f"rolloutobs/manifests/k8s/{name}" for name in MANIFESTS}
            )
        folder = Path(self.root) / "rum_collector" / "browser"
        if _fresh(folder):
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                f"{folder}/dist/rolloutobs.js is missing or older than its source, and no npm is there to "
                "build it; install Node >= 20, or build from the published sdist, which carries the bundle"
            )
        for command in (["ci"], ["run", "build"]):
            subprocess.run([npm, *command], cwd=folder, check=True)  # noqa: S603 - no shell, fixed arguments


def _fresh(folder: Path) -> bool:
    names = ("rolloutobs.js", "rolloutobs-full.js")
    built = [folder / "dist" / f"{name}{coding}" for name in names for coding in ("", ".br")]
    if not all(path.exists() for path in built):
        return False
    sources = [*folder.glob("src/**/*.ts"), folder / "build.mjs", folder / "package-lock.json"]
    newest = max(path.stat().st_mtime for path in sources)
    return all(path.stat().st_mtime >= newest for path in built)
