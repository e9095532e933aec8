"""The label file as a kubelet writes it, and as nothing should."""

import gc
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from itertools import count

import pytest

from rolloutobs.detection import TrackResolver
from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry import tracking
from rolloutobs.telemetry.failures import Failures
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.store import Store
from rolloutobs.telemetry.tracking import TrackFile, follow
from rolloutobs.testing import FakeClock, parse_metrics

DEADLINE_SECONDS = 30.0
INTERVAL_SECONDS = 2.0


class Volume:
    """A Downward API volume: each change is a new folder behind a symlink that is replaced by a rename.

    Source: Kubernetes, pkg/volume/util/atomic_writer.go.
    """

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "labels"
        self._numbers = count()
        folder.mkdir()
        self.path.symlink_to("..data/labels")

    def write(self, text):
        version = self.folder / f"..2026_11_23_{next(self._numbers)}"
        version.mkdir()
        (version / "labels").write_text(text)
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        data = self.folder / "..data"
        old = data.resolve() if data.exists() else None
        fresh.rename(data)
        if old is not None:
            (old / "labels").unlink()
            old.rmdir()


class Followed:
    """A label file with what came of it."""

    def __init__(self, path, track="", environ=None, interval=INTERVAL_SECONDS):
        settings = Settings(track=track, labels_file=str(path), labels_interval_seconds=interval)
        self.clock = FakeClock()
        self.failures = Failures()
        self.seen = []
        resolver = TrackResolver.of(settings, environ or {})
        self.file = TrackFile(settings, resolver, self.seen.append, self.failures, self.clock)

    def look(self, later=INTERVAL_SECONDS):
        self.clock.advance(later)
        return self.file.check_now()

    @property
    def failed(self):
        return failed(self.failures)


def failed(failures):
    return failures.family.cell("track").value


def until(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        threading.Event().wait(0.005)


@pytest.fixture
def volume(tmp_path):
    volume = Volume(tmp_path / "podinfo")
    volume.write('app="shop"\nrole="canary"')
    return volume


@pytest.fixture(autouse=True)
def _no_threads_left():
    yield
    for file in tuple(tracking._running):
        file.stop()


def test_the_swap_of_a_real_volume_is_seen_at_the_next_look(volume):
    followed = Followed(volume.path, "canary")
    assert followed.look() is Track.CANARY
    volume.write('app="shop"\nrole="stable"')
    assert followed.look() is Track.STABLE
    volume.write('app="shop"\nrole="canary"')
    assert followed.look() is Track.CANARY
    assert followed.seen == [Track.STABLE, Track.CANARY]
    assert followed.failed == 0


def test_a_file_rewritten_in_place_within_one_tick_is_seen(tmp_path):
    path = tmp_path / "labels"
    path.write_text("canary")
    followed = Followed(path, "canary")
    followed.look()
    before = path.stat()
    path.write_text("stable")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert followed.look() is Track.STABLE


def test_a_deleted_file_means_unknown_once_it_was_missing_twice(volume):
    followed = Followed(volume.path, "canary")
    volume.path.unlink()
    assert followed.look() is Track.CANARY
    assert followed.look() is Track.NONE
    assert followed.seen == [Track.NONE]
    volume.path.symlink_to("..data/labels")
    assert followed.look() is Track.CANARY


def test_two_looks_at_the_same_moment_are_one(volume):
    followed = Followed(volume.path, "canary")
    volume.path.unlink()
    followed.look()
    assert followed.look(later=0.1) is Track.CANARY
    assert followed.look(later=0.9) is Track.NONE


def test_a_file_that_is_back_was_never_away(volume):
    followed = Followed(volume.path, "canary")
    for _ in range(3):
        volume.path.rename(volume.path.with_name("away"))
        assert followed.look() is Track.CANARY
        volume.path.with_name("away").rename(volume.path)
        assert followed.look() is Track.CANARY
    assert followed.seen == []


def test_without_a_label_the_environment_holds(volume):
    followed = Followed(volume.path, "canary", {"ROLLOUTOBS_TRACK": "baseline"})
    volume.write('app="shop"')
    followed.look()
    assert followed.look() is Track.BASELINE
    volume.write('app="shop"\nrole="stable"')
    assert followed.look() is Track.STABLE


def test_every_half_of_a_line_is_ignored_until_the_line_is_whole(tmp_path, caplog):
    path = tmp_path / "labels"
    whole = 'app="shop"\ntrack="stable"'
    for cut in range(1, len('track="stable"')):
        path.write_text('app="shop"\ntrack="canary"')
        followed = Followed(path, "canary")
        followed.look()
        path.write_text(whole[:-cut])
        assert followed.look() is Track.CANARY, whole[:-cut]
        path.write_text(whole)
        assert followed.look() is Track.STABLE
        assert followed.seen == [Track.STABLE]
        assert followed.failed == 1


def test_a_file_that_stays_half_written_says_nothing(tmp_path):
    path = tmp_path / "labels"
    path.write_text('track="can')
    followed = Followed(path, "canary")
    followed.look()
    assert followed.look() is Track.NONE
    assert followed.failed == 2


def test_an_unknown_word_is_counted_each_time_and_warned_about_once(volume, caplog):
    followed = Followed(volume.path, "canary")
    for _ in range(3):
        volume.write('role="blue"')
        for _ in range(5):
            followed.look()
        assert followed.file.track is Track.NONE
        volume.write('role="canary"')
        assert followed.look() is Track.CANARY
    assert followed.failed == 3
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in warned] == [
        f"label role in {volume.path} is 'blue', which is no track, and is taken as none"
    ]
    volume.write('role="green"')
    followed.look()
    assert followed.failed == 4
    assert "'green'" in caplog.text


@pytest.mark.parametrize("content", [b"\xff", b"x" * (2 << 20)])
def test_an_unreadable_file_is_counted_at_every_look(tmp_path, content):
    path = tmp_path / "labels"
    path.write_text("canary")
    followed = Followed(path, "canary")
    followed.look()
    path.write_bytes(content)
    assert followed.look() is Track.CANARY
    assert followed.look() is Track.NONE
    assert followed.failed == 2
    path.write_text("stable")
    assert followed.look() is Track.STABLE


def test_a_folder_in_its_place_does_not_raise(tmp_path):
    followed = Followed(tmp_path, "canary")
    followed.look()
    assert followed.look() is Track.NONE
    assert followed.failed == 2


def test_a_receiver_that_raises_is_counted_and_told_again(volume):
    followed = Followed(volume.path, "canary")
    heard = []

    def receive(track):
        heard.append(track)
        if len(heard) == 1:
            raise RuntimeError("not yet")

    followed.file._on_track = receive
    volume.write('role="stable"')
    assert followed.look() is Track.CANARY
    assert followed.failed == 1
    assert followed.look() is Track.STABLE
    assert followed.look() is Track.STABLE
    assert heard == [Track.STABLE, Track.STABLE]


def test_a_receiver_may_look_again(volume):
    followed = Followed(volume.path, "canary")
    heard = []
    followed.file._on_track = lambda track: heard.append((track, followed.file.check_now()))
    volume.write('role="stable"')
    assert followed.look() is Track.STABLE
    assert heard == [(Track.STABLE, Track.CANARY)]


def test_a_log_handler_that_raises_does_not_stop_anything(volume):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("broken handler")

    handler, logger = Broken(), logging.getLogger("rolloutobs")
    logger.addHandler(handler)
    try:
        followed = Followed(volume.path, "canary")
        volume.write('role="blue"')
        for _ in range(3):
            followed.look()
        assert followed.file.track is Track.NONE
    finally:
        logger.removeHandler(handler)


def hub_of(path, **more):
    settings = Settings(
        service="shop", version="1", labels_file=str(path), labels_interval_seconds=0.01, **more
    )
    store = Store()
    return settings, Hub(settings, store, "shop", Failures(store))


def test_a_promotion_reaches_every_signal_of_the_app(volume):
    settings, hub = hub_of(volume.path)
    requests = hub.counter("visits_total", "Visits.", ())
    file = follow(settings, {}, hub.retrack, hub.failures)
    assert hub.live.stamp.identity.track is Track.CANARY
    requests.cell().inc(3)
    volume.write('role="stable"')
    until(lambda: hub.live.stamp.identity.track is Track.STABLE)
    requests.cell().inc(2)
    samples = parse_metrics(hub.render().body.decode())
    visits = {s.labels["track"]: s.value for s in samples if s.name == "visits_total"}
    assert visits == {"canary": 3, "stable": 2}
    assert file.is_running


def test_two_apps_of_one_pod_follow_the_same_file(volume):
    first, second = hub_of(volume.path), hub_of(volume.path)
    files = [follow(settings, {}, hub.retrack, hub.failures) for settings, hub in (first, second)]
    volume.write('role="stable"')
    until(lambda: {hub.live.stamp.identity.track for _, hub in (first, second)} == {Track.STABLE})
    files[0].stop()
    assert not files[0].is_running
    volume.write('role="canary"')
    until(lambda: second[1].live.stamp.identity.track is Track.CANARY)
    assert first[1].live.stamp.identity.track is Track.STABLE
    files[0].start()
    until(lambda: first[1].live.stamp.identity.track is Track.CANARY)


@pytest.mark.parametrize(
    "changes", [{"track": "canary"}, {"labels_file": None}, {"detection": False}, {"labels_file": "/no/x/y"}]
)
def test_where_nothing_can_change_there_is_no_thread(volume, changes):
    settings = Settings(**{"labels_file": str(volume.path), **changes})
    before = threading.active_count()
    assert follow(settings, {}, pytest.fail, Failures()) is None
    assert threading.active_count() == before


def test_a_file_that_comes_later_is_found(tmp_path):
    settings, hub = hub_of(tmp_path / "labels")
    file = follow(settings, {}, hub.retrack, hub.failures)
    assert file.track is Track.NONE
    (tmp_path / "labels").write_text("canary")
    until(lambda: hub.live.stamp.identity.track is Track.CANARY)


def test_an_app_that_is_gone_takes_its_thread_along(volume):
    settings, hub = hub_of(volume.path)
    file = follow(settings, {}, hub.retrack, hub.failures)
    thread, gone = file._thread, weakref.ref(hub)
    del file, hub
    gc.collect()
    until(lambda: not thread.is_alive())
    gc.collect()
    assert gone() is None


def test_starting_twice_is_starting_once_and_stopping_twice_is_no_error(volume):
    settings, hub = hub_of(volume.path)
    file = follow(settings, {}, hub.retrack, hub.failures)
    thread = file._thread
    file.start()
    assert file._thread is thread
    file.stop()
    file.stop()
    assert not thread.is_alive()


def test_a_receiver_may_stop_the_file_from_its_thread(volume):
    settings = Settings(labels_file=str(volume.path), labels_interval_seconds=0.01, track_is_fixed=False)
    file = TrackFile(settings, TrackResolver.of(settings, {}), lambda track: file.stop(), Failures())
    file.start()
    until(lambda: file.track is Track.CANARY and not file.is_running)


def test_no_more_threads_is_counted_and_looking_by_hand_still_works(volume, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    settings, hub = hub_of(volume.path)
    file = follow(settings, {}, hub.retrack, hub.failures)
    assert failed(hub.failures) == 1
    assert not file.is_running
    volume.write('role="stable"')
    assert file.check_now() is Track.STABLE


# Python 3.12 warns where the test runner itself has threads.
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_worker_follows_too_and_the_parent_goes_on(volume):
    settings, hub = hub_of(volume.path)
    file = follow(settings, {}, hub.retrack, hub.failures)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            until(lambda: hub.live.stamp.identity.track is Track.STABLE and file.is_running)
            os.write(writing, b"stable")
        finally:
            os._exit(0)
    os.close(writing)
    try:
        assert file.is_running
        volume.write('role="stable"')
        until(lambda: hub.live.stamp.identity.track is Track.STABLE)
        assert select.select([reading], [], [], DEADLINE_SECONDS)[0]
        assert os.read(reading, 100) == b"stable"
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_a_look_that_is_under_way(volume):
    settings = Settings(labels_file=str(volume.path), labels_interval_seconds=0.01)
    held, inside, release = threading.Lock(), threading.Event(), threading.Event()

    def receive(track):
        with held:
            inside.set()
            release.wait(DEADLINE_SECONDS)

    file = TrackFile(settings, TrackResolver.of(settings, {}), receive, Failures())
    file.start()
    assert inside.wait(DEADLINE_SECONDS)
    stop, forked = file._stop, threading.Event()

    def let_go():
        # As soon as the fork asks the thread to stop; or never, if it does not ask.
        while not stop.wait(0.001) and not forked.is_set():
            pass
        release.set()

    helper = threading.Thread(target=let_go)
    helper.start()
    child = os.fork()
    if child == 0:
        os._exit(1 if held.locked() else 0)
    forked.set()
    helper.join()
    assert os.waitpid(child, 0)[1] == 0
    assert file.is_running


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


START = """
import os, sys, threading
from rolloutobs.settings import Settings
from rolloutobs.telemetry.failures import Failures
from rolloutobs.telemetry.tracking import follow
settings = Settings(labels_file=sys.argv[1], labels_interval_seconds=0.001)
file = follow(settings, {}, lambda track: None, Failures())
assert file.is_running
"""


def test_the_thread_does_not_keep_the_interpreter_alive(volume):
    done = run(START, volume.path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_forks_as_if_there_were_no_thread(volume):
    code = START + (
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        file.check_now()\n"
        "        os._exit(0 if file.is_running else 1)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "assert file.is_running and threading.active_count() == 2\n"
    )
    done = run(code, volume.path)
    assert (done.returncode, done.stderr) == (0, "")
