import asyncio
import contextvars
import gc
import sys
import threading

import pytest
import trio

from rolloutobs.asgi.threads import in_thread

VARIABLE = contextvars.ContextVar("variable", default="none")
RUNNERS = {"asyncio": lambda main: asyncio.run(main()), "trio": trio.run}
runs = pytest.mark.parametrize("run", [pytest.param(runner, id=name) for name, runner in RUNNERS.items()])


@runs
def test_the_work_is_done_elsewhere_with_the_callers_context(run):
    async def main():
        VARIABLE.set("mine")
        return await in_thread(lambda: (threading.get_ident(), VARIABLE.get()))

    thread, seen = run(main)
    assert thread != threading.get_ident()
    assert seen == "mine"


@runs
def test_what_the_work_raises_is_raised(run):
    async def main():
        with pytest.raises(KeyError, match="gone"):
            await in_thread(lambda: {}["gone"])

    run(main)


async def test_the_loop_goes_on_meanwhile():
    release, entered = threading.Event(), threading.Event()

    def work():
        entered.set()
        return release.wait(30)

    task = asyncio.create_task(in_thread(work))
    second = asyncio.create_task(in_thread(lambda: "beside"))
    assert await second == "beside"
    async with asyncio.timeout(30):
        while not entered.is_set():
            await asyncio.sleep(0.001)
    assert not task.done()
    release.set()
    assert await task


async def test_a_caller_that_is_cancelled_leaves_the_work_alone():
    release, ended = threading.Event(), threading.Event()

    def work():
        release.wait(30)
        ended.set()
        raise RuntimeError("nobody sees this")

    task = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    async with asyncio.timeout(30):
        while not ended.is_set():
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    gc.collect()


def test_a_loop_that_is_closed_meanwhile_is_no_error():
    release = threading.Event()
    before = set(threading.enumerate())
    loop = asyncio.new_event_loop()
    task = loop.create_task(in_thread(lambda: release.wait(30)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    (thread,) = set(threading.enumerate()) - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    release.set()
    thread.join(30)
    assert not thread.is_alive()


def test_without_a_known_event_loop_it_is_done_right_here(monkeypatch):
    def driven():
        with pytest.raises(StopIteration) as result:
            in_thread(threading.get_ident).send(None)
        return result.value.value

    assert driven() == threading.get_ident()
    monkeypatch.delitem(sys.modules, "trio")
    monkeypatch.delitem(sys.modules, "asyncio")
    assert driven() == threading.get_ident()


async def test_without_threads_to_be_had_it_is_done_right_here(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await in_thread(threading.get_ident) == threading.get_ident()
