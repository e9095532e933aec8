"""The commit of the working tree in which an app runs, read from ``.git`` without git.

Source: gitrepository-layout(5): ``HEAD``, ``refs/``, ``packed-refs``, ``commondir``, and ``.git`` as a file
in worktrees and submodules.
"""

from __future__ import annotations

import re
from pathlib import Path

from rolloutobs.detection.files import read_small
from rolloutobs.detection.looks import Look

__all__ = ["git_look"]

SHORT_CHARS = 12
"""Long enough to stay unique in any repository; the Linux kernel asks for as many."""
MAX_LEVELS = 30
MAX_PACKED_BYTES = 1 << 24
"""Of ``packed-refs``: some two hundred thousand refs."""
MAX_LINKS = 5
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"refs/[^\s\\~^:?*\[\x00-\x1f\x7f]+")


def git_look(start: Path, home: str = "") -> Look:
    """Return the short commit of the working tree around `start`.

    Args:
        start: a folder.
        home: the user's home folder, which is not looked into from below: a repository of dotfiles is not the
            app's. Empty: there is none.

    Raises:
        OSError, ValueError: ``.git`` is there, and cannot be read.
    """
    start = start.absolute()
    for folder in [start, *start.parents][:MAX_LEVELS]:
        if home and folder != start and folder == Path(home):
            break
        if (folder / ".git").exists():
            return _look(folder / ".git")
    return Look(f"git working tree around {start}")


def _look(dot_git: Path) -> Look:
    source = f"git commit of {dot_git.parent}"
    git = _followed(dot_git)
    if git is None:
        return Look(source, reason=f"{dot_git} leads nowhere")
    common = git
    if (git / "commondir").is_file():
        common = git / read_small(git / "commondir").strip()
    text = read_small(git / "HEAD").strip()
    for _ in range(MAX_LINKS):
        if _SHA.fullmatch(text):
            return Look(source, text[:SHORT_CHARS])
        name = text.removeprefix("ref:").strip()
        if not _REF.fullmatch(name) or ".." in name:
            break
        found = _ref(name, git, common)
        if found is None:
            return Look(source, reason=f"{name} has no commit yet, or is kept in a format that is not read")
        text = found
    return Look(source, reason=f"HEAD is not understood: {text[:80]!r}")


def _followed(dot_git: Path) -> Path | None:
    """Return the folder that holds ``HEAD``."""
    if dot_git.is_file():
        text = read_small(dot_git).strip()
        if not text.startswith("gitdir:"):
            return None
        dot_git = dot_git.parent / text.removeprefix("gitdir:").strip()
    return dot_git if (dot_git / "HEAD").is_file() else None


def _ref(name: str, git: Path, common: Path) -> str | None:
    for folder in (git, common):
        try:
            return read_small(folder / name).strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
    if not (common / "packed-refs").is_file():
        return None
    for line in read_small(common / "packed-refs", MAX_PACKED_BYTES).splitlines():
        sha, _, packed = line.partition(" ")
        if packed.strip() == name:
            return sha
    return None
