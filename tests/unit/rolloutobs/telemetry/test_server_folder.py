import os
import tempfile
from pathlib import Path

import pytest

from rolloutobs.settings import Settings
from rolloutobs.telemetry import server_folder
from rolloutobs.telemetry.server_folder import folder_of, locate, started
from rolloutobs.telemetry.worker_file import WorkerFile
from rolloutobs.telemetry.workers import Server

HERE = Server(os.getpid(), "fork")
SETTINGS = Settings(service="shop", version="1")


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_the_folder_is_the_same_for_all_workers_of_one_version(tmp_path):
    assert folder_of(HERE, SETTINGS) == folder_of(HERE, Settings(service="shop", version="1", track="canary"))
    others = {
        folder_of(HERE, Settings(service="shop", version="2")),
        folder_of(HERE, Settings(service="cart", version="1")),
        folder_of(Server(os.getppid(), "fork"), SETTINGS),
    }
    assert folder_of(HERE, SETTINGS) not in others
    assert len(others) == 3
    assert folder_of(HERE, SETTINGS).parent == tmp_path / f"rolloutobs-{os.geteuid()}"


def test_a_server_that_has_the_process_id_of_another_has_another_folder(monkeypatch):
    one = folder_of(HERE, SETTINGS)
    monkeypatch.setattr(server_folder, "started", lambda pid: 1)
    assert folder_of(HERE, SETTINGS) != one


def test_the_users_choice_holds(tmp_path):
    folder = folder_of(HERE, Settings(service="shop", version="1", metrics_dir=str(tmp_path / "a" / "b")))
    assert folder.parent == tmp_path / "a" / "b"
    assert locate(folder, is_given=True) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_memory_comes_before_the_disk_but_not_before_a_word_of_the_user(monkeypatch, tmp_path):
    shm = tmp_path / "shm"
    shm.mkdir()
    monkeypatch.setattr(server_folder, "MEMORY_FOLDER", str(shm))
    assert folder_of(HERE, SETTINGS).parent.parent == tmp_path
    monkeypatch.delenv("TMPDIR")
    assert folder_of(HERE, SETTINGS).parent.parent == shm
    shm.rmdir()
    assert folder_of(HERE, SETTINGS).parent.parent == Path(tempfile.gettempdir())


def test_folders_are_for_this_user_only(tmp_path):
    folder = locate(folder_of(HERE, SETTINGS), is_given=False)
    for made in (folder, folder.parent):
        assert made.stat().st_mode & 0o777 == 0o700
    assert locate(folder, is_given=False) == folder


@pytest.mark.parametrize("which", ["base", "folder"])
@pytest.mark.parametrize("attack", ["link", "open", "file", "owner"])
def test_a_folder_that_somebody_else_has_put_there_is_refused(tmp_path, monkeypatch, which, attack):
    folder = folder_of(HERE, SETTINGS)
    if which == "folder":
        folder.parent.mkdir(0o700)
    target = folder if which == "folder" else folder.parent
    if attack == "link":
        (tmp_path / "elsewhere").mkdir(0o700)
        target.symlink_to(tmp_path / "elsewhere")
    elif attack == "file":
        target.write_text("")
    else:
        target.mkdir()
        target.chmod(0o777 if attack == "open" else 0o700)
    user = os.geteuid()
    if attack == "owner":
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(OSError, match=r"only this user|Not a directory"):
        locate(folder, is_given=False) if attack != "owner" else server_folder._make_own(target)
    assert list((tmp_path / "elsewhere").iterdir()) == [] if attack == "link" else True


def test_folders_of_servers_that_are_gone_are_removed(tmp_path):
    folder = folder_of(HERE, SETTINGS)
    base = folder.parent
    locate(folder, is_given=False)
    namespace = server_folder._namespace()
    gone = base / f"999999999-1-{namespace}-abc"
    used = base / f"999999998-1-{namespace}-abc"
    alive = base / f"{os.getpid()}-{started(os.getpid())}-{namespace}-other"
    again = base / f"{os.getpid()}-1-{namespace}-abc"
    container = base / "1-1-12345-abc"
    old_container = base / "1-2-12345-abc"
    other, name = base / "999-notes", base / "999999999-1-x"
    for path in (gone, used, alive, again, container, old_container, other, name):
        path.mkdir()
        (path / "1-x.cells").write_bytes(b"x")
    for path in (old_container, old_container / "1-x.cells"):
        os.utime(path, (1, 1))
    file = WorkerFile(used)
    file.publish()
    locate(folder, is_given=False)
    left = {path.name for path in base.iterdir()}
    assert left == {p.name for p in (folder, used, alive, container, other, name)}
    file.close()
    locate(folder, is_given=False)
    assert not used.exists()


def test_a_version_that_was_replaced_long_ago_is_removed_though_its_server_lives():
    new = folder_of(HERE, Settings(service="shop", version="2"))
    old = locate(folder_of(HERE, SETTINGS), is_given=False)
    file = WorkerFile(old)
    file.publish()
    for path in (old, *old.iterdir()):
        os.utime(path, (1, 1))
    locate(new, is_given=False)
    assert old.exists()
    file.close()
    for path in (old, *old.iterdir()):
        os.utime(path, (1, 1))
    locate(new, is_given=False)
    assert not old.exists()


def test_when_a_process_was_started():
    assert started(os.getpid()) > 0
    assert started(os.getpid()) == started(os.getpid())
    assert started(999_999_999) is None


def test_a_name_with_blanks_and_parentheses_is_no_trouble(monkeypatch):
    text = "7 (a) b (c) S " + " ".join(str(i) for i in range(4, 53))
    monkeypatch.setattr(server_folder, "_read", lambda path: text)
    assert started(7) == 22


def test_without_proc_the_process_id_alone_names_the_server(monkeypatch):
    monkeypatch.setattr(server_folder, "_read", lambda path: "")
    assert folder_of(HERE, SETTINGS).name.startswith(f"{os.getpid()}-0-")
    folder = locate(folder_of(HERE, SETTINGS), is_given=False)
    other = locate(folder_of(HERE, Settings(service="shop", version="2")), is_given=False)
    assert folder.exists()
    assert other.exists()
