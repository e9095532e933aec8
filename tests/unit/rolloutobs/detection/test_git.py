import shutil
import subprocess
from pathlib import Path

import pytest

from rolloutobs.detection.git import git_look

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not on the PATH")
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    environ = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder: Path, name: str = "a") -> str:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    return folder


def test_a_branch_loose_and_packed_and_then_no_branch(repository):
    first = committed(repository)
    below = repository / "src" / "shop"
    below.mkdir(parents=True)
    look = git_look(below)
    assert (look.value, look.source) == (first[:12], f"git commit of {repository}")
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/main").exists()
    assert git_look(below).value == first[:12]
    second = committed(repository, "b")
    assert git_look(below).value == second[:12]
    git(repository, "checkout", "-q", "--detach", first)
    assert git_look(below).value == first[:12]


def test_a_branch_with_a_slash_and_other_branches_beside_it(repository):
    first = committed(repository)
    git(repository, "checkout", "-q", "-b", "feature/main")
    second = committed(repository, "b")
    git(repository, "pack-refs", "--all")
    assert git_look(repository).value == second[:12]
    git(repository, "checkout", "-q", "main")
    assert git_look(repository).value == first[:12]


def test_a_worktree(repository, tmp_path):
    committed(repository)
    tree = tmp_path / "tree"
    git(repository, "worktree", "add", "-q", "-b", "other", str(tree))
    theirs = committed(tree, "c")
    assert git_look(tree).value == theirs[:12]
    git(repository, "pack-refs", "--all")
    assert git_look(tree).value == theirs[:12]
    assert git_look(repository).value != theirs[:12]


def test_a_submodule(repository, tmp_path):
    theirs = committed(repository)
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q", "-b", "main")
    git(outer, "submodule", "--quiet", "add", str(repository), "inner")
    ours = committed(outer)
    assert git_look(outer / "inner").value == theirs[:12]
    assert git_look(outer).value == ours[:12]


def test_a_repository_with_long_hashes(tmp_path):
    git(tmp_path, "init", "-q", "--object-format=sha256")
    found = committed(tmp_path)
    assert len(found) == 64
    assert git_look(tmp_path).value == found[:12]


def test_nothing_committed_yet(repository):
    look = git_look(repository)
    assert not look.is_usable
    assert "no commit yet" in look.reason


@pytest.mark.parametrize(
    "head", ["", "ref: ", "ref: ../../etc/passwd", "ref: refs/../../x", "ref: refs/\0", "beef", "x" * 1000]
)
def test_a_strange_head_is_not_followed(repository, head):
    (repository / ".git/HEAD").write_text(head)
    assert "is not understood" in git_look(repository).reason


def test_links_in_a_circle_end(repository):
    (repository / ".git/refs/heads/main").write_text("ref: refs/heads/main")
    assert "is not understood" in git_look(repository).reason


def test_a_git_file_that_leads_nowhere(tmp_path):
    (tmp_path / ".git").write_text("gitdir: ../gone")
    assert "leads nowhere" in git_look(tmp_path).reason
    (tmp_path / ".git").write_text("something else")
    assert "leads nowhere" in git_look(tmp_path).reason


def test_the_dotfiles_of_the_home_folder_are_not_the_apps(repository):
    sha = committed(repository)
    below = repository / "app"
    below.mkdir()
    assert not git_look(below, home=str(repository)).value
    assert git_look(repository, home=str(repository)).value == sha[:12]


def test_no_repository(tmp_path):
    look = git_look(tmp_path / "nowhere", home=str(tmp_path))
    assert not look.value
    assert not look.reason
