"""Where counts are kept: in memory, or in a folder that workers share and that a restart finds again."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Set
from hashlib import blake2b
from pathlib import Path
from typing import Final

from rolloutobs._version import __version__
from rolloutobs.settings import Settings as SdkSettings
from rolloutobs.telemetry.server_folder import folder_of, locate
from rolloutobs.telemetry.shared import SharedFolder, State
from rolloutobs.telemetry.store import Store
from rolloutobs.telemetry.workers import detect
from rum_collector.admission import Release
from rum_collector.families import BOOK
from rum_collector.settings import Settings

__all__ = ["Counts"]

_logger = logging.getLogger("rum_collector")
_SERIES_PER_SET: Final = 40
"""At most so many series of one family belong to one label set: events, fingerprints, vitals by rating."""
_KEY_BYTES: Final = 32


class Counts:
    """The store of one process, and its folder where there is one.

    Args:
        settings: of the collector.
        report: told of what goes wrong; counting goes on in memory then.
    """

    def __init__(self, settings: Settings, report: Callable[[BaseException | str], None]) -> None:
        self.store = Store()
        self._settings = settings
        self._report = report
        self._shared: SharedFolder | None = None

    def start(self) -> Path | None:
        """Share counts where there is a folder for it, and return that folder.

        Raises:
            OSError: the folder of the settings cannot be used. A collector that is told to keep its counts
                must not pretend to.
        """
        where = self._where()
        if where is None:
            return None
        folder, is_given = where
        most = _SERIES_PER_SET * self._settings.max_label_sets
        shared = SharedFolder(lambda: locate(folder, is_given=is_given), self._report, most)
        try:
            self.store.share(shared)
        except OSError as error:
            if is_given:
                raise
            self._report(error)
            _logger.warning("each worker counts for itself, for they have no folder to share: %s", error)
            return None
        self._shared = shared
        return shared.folder

    def _where(self) -> tuple[Path, bool] | None:
        if self._settings.data_dir:
            return Path(self._settings.data_dir) / "counts", True
        server = detect()
        if server is None or server.is_this:
            return None
        return folder_of(server, SdkSettings(service="rolloutobs-collector", version=__version__)), False

    def look(self, dropped: Set[Release] = frozenset()) -> None:
        """Look after the folder: called every few seconds, in the thread that counts.

        Args:
            dropped: versions whose series were dropped since the last time; their room is given back.
        """
        if self._shared is None:
            return
        if dropped:
            self._shared.drop(lambda key, values: key[0] == BOOK and values[:2] in dropped)
        state = self._shared.state()
        if state is not State.GOOD or dropped:
            self.store.share(self._shared, keep=state is not State.FOLDED)

    def stop(self) -> None:
        """Count no longer; what was counted stays with the others, and in the folder."""
        if self._shared is not None:
            self._shared.close()

    def key(self, folder: Path | None) -> bytes:
        """Return the key by which networks are put into groups: of the secret, else kept in the folder.

        Replicas with the same secret agree; without one each has its own.
        """
        if self._settings.secret:
            return blake2b(self._settings.secret[0].encode("utf-8", "surrogateescape")).digest()[:_KEY_BYTES]
        fresh = secrets.token_bytes(_KEY_BYTES)
        if folder is None:
            return fresh
        descriptor = os.open(folder / "networks.key", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with open(descriptor, "r+b") as file:  # noqa: PTH123 - a descriptor, not a path
            # Workers start at once, and one may have been killed before it had written anything.
            fcntl.flock(file, fcntl.LOCK_EX)
            found = file.read(_KEY_BYTES)
            if len(found) == _KEY_BYTES:
                return found
            file.seek(0)
            file.write(fresh)
        return fresh
