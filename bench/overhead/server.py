"""A subject behind uvicorn: `python -m bench.overhead.server HOME NAME PROCESSOR`.

Prints its port; serves until standard input ends; then prints how many requests its telemetry has recorded.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

import uvicorn

from bench.overhead.subject import Built, UnavailableError
from bench.overhead.tables import subjects

__all__ = ["main"]


def _serve(built: Built, listening: socket.socket) -> None:
    config = uvicorn.Config(
        built.app, loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)

    def stop_at_end_of_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    server.run(sockets=[listening])


def main(argv: list[str]) -> int:
    home, name, processor = argv
    if hasattr(os, "sched_setaffinity") and processor != "any":
        os.sched_setaffinity(0, {int(processor)})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    subject = next(found for found in subjects() if (found.home, found.name) == (home, name))
    try:
        built = subject.build()
    except UnavailableError as error:
        print(json.dumps({"unavailable": str(error)}), file=answers, flush=True)
        return 0
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        print(json.dumps({"port": listening.getsockname()[1]}), file=answers, flush=True)
        _serve(built, listening)
    built.close()
    recorded = None if built.recorded is None else built.recorded()
    print(json.dumps({"recorded": recorded}), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)
