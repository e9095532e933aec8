"""The browser script as it is served: read once, compressed once, named by its hash."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["BUNDLE_PATH", "FULL_BUNDLE_PATH", "Bundle", "Variant", "accepted_codings"]

BUNDLE_PATH: Final = Path(__file__).parent / "browser" / "dist" / "rolloutobs.js"
"""Where npm builds the script, and where the wheel carries it."""
FULL_BUNDLE_PATH: Final = BUNDLE_PATH.with_name("rolloutobs-full.js")
"""The script with calls, long frames, phases and consent."""

_ZERO: Final = re.compile(r"q\s*=\s*0(\.0*)?")


@dataclass(frozen=True, slots=True)
class Variant:
    """The script in one content coding; ``coding`` is empty for the script as it is."""

    coding: str
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """The script in every coding that is there, best first."""

    variants: tuple[Variant, ...]

    @classmethod
    def read(cls, path: Path = BUNDLE_PATH) -> Bundle | None:
        """Return the script at `path`, with brotli where ``.br`` lies beside it; ``None`` if not built.

        Raises:
            OSError: the file is there and cannot be read.
        """
        if not path.exists():
            return None
        code = path.read_bytes()
        digest = hashlib.sha256(code).hexdigest()[:16]
        bodies = {"gzip": gzip.compress(code, 9, mtime=0), "": code}
        brotli = path.with_name(path.name + ".br")
        if brotli.exists():
            bodies = {"br": brotli.read_bytes()} | bodies
        # One ETag per coding: a strong one names bytes, not meaning (RFC 9110 section 8.8.3.3).
        return cls(tuple(Variant(coding, body, f'"{digest}{coding}"') for coding, body in bodies.items()))

    def best(self, accept_encoding: str) -> Variant:
        """Return the smallest variant that the header Accept-Encoding allows."""
        accepted = accepted_codings(accept_encoding)
        return next(v for v in self.variants if not v.coding or v.coding in accepted)


def accepted_codings(header: str) -> frozenset[str]:
    """Return the codings in Accept-Encoding, without those of quality zero (RFC 9110 section 12.5.3)."""
    accepted = set()
    for item in header.lower().split(","):
        coding, _, weight = (part.strip() for part in item.partition(";"))
        if coding and not _ZERO.fullmatch(weight):
            accepted.add(coding)
    return frozenset(accepted)
