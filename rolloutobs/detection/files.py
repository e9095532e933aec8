"""Reading a small file that may be anything: bounded in bytes, and never waiting."""

from __future__ import annotations

import os
import stat

__all__ = ["MAX_BYTES", "read_small"]

MAX_BYTES = 1 << 20
"""Far more than the labels of a pod: all its annotations together may have 256 KiB. Source: Kubernetes,
apimachinery, ``TotalAnnotationSizeLimitB``."""


def read_small(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> str:
    """Return the text of the regular file that `path` leads to now.

    Opened by its path each time, for a Downward API volume replaces the file behind it. A named pipe is not
    waited for.

    Raises:
        OSError: it cannot be opened or read (``FileNotFoundError``: it is not there), or is no regular file.
        ValueError: it is larger than `limit` bytes, or not UTF-8 (``UnicodeDecodeError``), or the path itself
            is impossible.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{os.fspath(path)} is not a regular file")
        data = bytearray()
        while chunk := os.read(descriptor, limit + 1 - len(data)):
            data += chunk
            if len(data) > limit:
                raise ValueError(f"{os.fspath(path)} is larger than {limit} bytes")
    finally:
        os.close(descriptor)
    return data.decode("utf-8")
