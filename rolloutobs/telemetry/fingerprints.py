"""Fingerprints of errors: the same for the same error in every process, version and Python.

An exception is known by its class and by the innermost function of the app's own code that it has come
through, an error message by its logger and its template. Line numbers and values are left out: they differ
between versions, and between users.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = ["Error", "error_type", "of_exception", "of_message", "scrub"]

MAX_TEXT_CHARS: Final = 240
_HASH_CHARS: Final = 12
_MAX_FRAMES: Final = 5000
"""No more is looked at of a traceback; Python's own recursion limit is 1000."""
LOG: Final = "log"
"""Type of an error message without an exception."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Quoted text, queries, mail addresses, long tokens, and whatever has a digit in it. Long runs are taken
# before the last rule sees them, and every other repetition before a character that may never come is
# bounded: no text takes quadratic time. ASCII only, as Unicode's classes differ between Pythons.
_PERSONAL: Final = re.compile(
    r"\"[^\"]*\"?|(?<![A-Za-z0-9])'[^']*'?|\?\S+|[^\s@]{1,64}@\S+|[\w-]{25,}|\w*\d\w*", re.ASCII
)
_MESSAGE_KEYS: Final = ("event", "message", "msg")
_COMPREHENSION: Final = re.compile(r"(?:^|\.)<(?:listcomp|dictcomp|setcomp|genexpr)>")
"""Part of a qualified name: Python 3.12 and later run comprehensions in the function around them."""
_INSTALLED: Final = ("site-packages", "dist-packages", "__pypackages__")
_FRAMEWORKS: Final = frozenset(
    {
        "aiohttp", "anyio", "asgiref", "billiard", "celery", "ddtrace", "django", "fastapi", "flask",
        "gevent", "granian", "grpc", "gunicorn", "hypercorn", "kombu", "litestar", "newrelic",
        "opentelemetry", "quart", "rest_framework", "rolloutobs", "sentry_sdk", "starlette", "trio",
        "uvicorn", "vine", "waitress", "werkzeug", "wrapt",
    }
)  # fmt: skip
"""What calls an app: in an app that is installed like a library, the first package below them is the app."""


@dataclass(frozen=True, slots=True)
class Error:
    """One kind of error.

    ``type`` is the class of the exception, ``log`` for a message without one; ``place`` is
    ``module:function`` (the logger for a message without an exception), empty where nothing was raised.
    """

    fingerprint: str
    type: str
    place: str
    sample: str
    """What it says, scrubbed of values; of the occurrence that was looked at."""


def of_exception(error: BaseException) -> Error:
    """Return which error `error` is. Of a group of one exception, that one counts."""
    error = _unwrapped(error)
    kind, place = error_type(error), _place(error.__traceback__)
    return Error(_hash("exception", kind, place), kind, place, _message(error))


def of_message(logger: str, template: object, error: BaseException | None) -> Error:
    """Return which error a log record tells of.

    Args:
        logger: its name.
        template: the message before its arguments are put in. An object that is logged as it is, is known by
            its class; JSON or a dict (structlog), by its event.
        error: the exception that is logged along.
    """
    if error is None and isinstance(template, BaseException):
        error = template
    if error is None:
        # Most templates are constants.
        short = type(template) is str and len(template) <= MAX_TEXT_CHARS
        return _known_message(logger, template) if short else _of_text(logger, _template(template))
    text = _template(template)
    error = _unwrapped(error)
    kind, place = error_type(error), _place(error.__traceback__)
    said = _message(error)
    return Error(_hash("log", logger, text, kind, place), kind, place, f"{text}: {said}" if said else text)


def _of_text(logger: str, text: str) -> Error:
    return Error(_hash("log", logger, text), LOG, logger, text)


@lru_cache(maxsize=512)
def _known_message(logger: str, template: str) -> Error:
    return _of_text(logger, _template(template))


def error_type(error: BaseException) -> str:
    """Return the exception's class, with its module unless that is the built-in one."""
    kind = type(error)
    module = kind.__module__
    if module == "builtins":
        return kind.__qualname__
    return f"{_main_name() if module == '__main__' else module}.{kind.__qualname__}"


def scrub(text: str) -> str:
    """Return `text` on one line, without quoted text, queries, mail addresses, tokens and numbers."""
    return _PERSONAL.sub("#", _CONTROL.sub(" ", text[: 4 * MAX_TEXT_CHARS]).strip())[:MAX_TEXT_CHARS]


def _hash(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "replace")
    return hashlib.sha256(text, usedforsecurity=False).hexdigest()[:_HASH_CHARS]


def _unwrapped(error: BaseException) -> BaseException:
    # What task groups make of the one exception of one task.
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _message(error: BaseException) -> str:
    try:
        return scrub(str(error))
    except Exception:
        # A class of the app with a `__str__` that fails.
        return ""


def _template(message: object) -> str:
    if isinstance(message, str):
        if message.startswith("{"):
            message = _parsed(message)
        if isinstance(message, str):
            return scrub(message)
    if isinstance(message, dict):
        for key in _MESSAGE_KEYS:
            if isinstance(message.get(key), str):
                return scrub(message[key])
    return type(message).__qualname__


def _parsed(text: str) -> Any:
    """Return the object of a line of JSON, as structlog hands it to `logging`; `text` if it is not one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict) or not any(isinstance(value.get(key), str) for key in _MESSAGE_KEYS):
        return text
    return value


def _place(traceback: TracebackType | None) -> str:
    """Return module and function of the innermost frame of the app's own code.

    Own is what is neither of the standard library nor installed. An app that is installed itself is the first
    package below the frameworks that call it; failing that too, the innermost frame counts.
    """
    frames: list[FrameType] = []
    while traceback is not None and len(frames) < _MAX_FRAMES:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    for frame in reversed(frames):
        if _is_own(frame.f_code.co_filename):
            return _name(frame)
    return _place_by_package(frames)


def _place_by_package(frames: list[FrameType]) -> str:
    packages = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames]
    app = next((p for p in packages if p not in _FRAMEWORKS and p not in sys.stdlib_module_names), None)
    for frame, package in zip(reversed(frames), reversed(packages), strict=True):
        if app is None or package == app:
            return _name(frame)
    return ""


@lru_cache(maxsize=4096)
def _is_own(filename: str) -> bool:
    if filename.startswith("<") or any(folder in filename for folder in _INSTALLED):
        return False
    return not filename.startswith(_library_folders())


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.add(str(Path(__file__).parent.parent))
    return tuple(folder.rstrip("/\\") + separator for folder in folders for separator in "/\\")


def _name(frame: FrameType) -> str:
    module = str(frame.f_globals.get("__name__", ""))
    if module == "__main__":
        module = _main_name()
    function = _COMPREHENSION.sub("", frame.f_code.co_qualname).lstrip(".").removesuffix(".<locals>")
    return f"{module}:{function or '<module>'}"


def _main_name() -> str:
    """Return the name under which others would import what was started: ``python -m shop.main`` is
    ``shop.main``.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name)
    return Path(getattr(main, "__file__", None) or "__main__").stem
