"""What a collector needs besides its settings: where counts, repeats and used tokens are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rolloutobs.telemetry.view_tokens import TokenReader
from rum_collector.counts import Counts
from rum_collector.proof import Proof
from rum_collector.seen import SeenTable
from rum_collector.settings import Settings
from rum_collector.sourcemaps import SourceMaps

__all__ = ["Parts"]

_logger = logging.getLogger("rum_collector")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one process."""

    counts: Counts
    folder: Path | None
    """Where everything is kept; ``None``: in memory."""
    views: SeenTable
    tokens: SeenTable | None
    """``None``: there is no secret, and so no tokens."""
    secrets: tuple[str, ...]
    source_maps: SourceMaps
    network_key: bytes

    @classmethod
    def in_memory(cls, settings: Settings) -> Parts:
        """Return parts that end with the process."""
        return cls._made(settings, Counts(settings, _warn), None)

    @classmethod
    def shared(cls, settings: Settings) -> Parts:
        """Return parts in a folder, where the settings name one or this is one of several workers.

        Raises:
            OSError: the folder of the settings cannot be used.
        """
        counts = Counts(settings, _warn)
        return cls._made(settings, counts, counts.start())

    @classmethod
    def _made(cls, settings: Settings, counts: Counts, folder: Path | None) -> Parts:
        def table(name: str, *, strict: bool) -> SeenTable:
            path = None if folder is None else folder / f"{name}.seen"
            return SeenTable(settings.max_views, path, strict=strict)

        maps = Path(settings.source_maps) if settings.source_maps else None
        return cls(
            counts=counts,
            folder=folder,
            views=table("views", strict=False),
            tokens=table("tokens", strict=True) if settings.secret else None,
            secrets=settings.secret,
            source_maps=SourceMaps(maps, _warn),
            network_key=counts.key(folder),
        )

    def proof(self, clock: Callable[[], float]) -> Proof | None:
        """Return what looks at tokens; ``None`` where there is no secret."""
        return None if self.tokens is None else Proof(TokenReader(self.secrets), self.tokens, clock)


def _warn(error: BaseException | str) -> None:
    _logger.warning("%s", error)
