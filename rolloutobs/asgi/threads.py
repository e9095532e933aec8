"""Work that takes long, off the event loop: under asyncio and under trio."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns, called in a thread; without a known event loop it is called right here.

    The thread is one of its own, not of the loop's pool: an app that has filled its pool is one that must
    still be scraped. It sees the context variables of the caller, is not waited for when the interpreter
    ends, and goes on alone when the caller is cancelled.

    Raises:
        whatever `work` raises.
    """
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        # With a limiter of its own, for the same reason.
        limiter = trio.CapacityLimiter(1)
        found: T = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
        return found
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return work()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return work()
    return await _beside(loop, work)


async def _beside(loop: Any, work: Callable[[], T]) -> T:
    done = loop.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if done.done():
            # The caller was cancelled.
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            pass

    thread = threading.Thread(target=copy_context().run, args=(run,), name="rolloutobs-metrics", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # No more threads to be had: late is better than never.
        return work()
    found: T = await done
    return found
