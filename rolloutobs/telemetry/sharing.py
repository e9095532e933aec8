"""Makes one process a worker that shares its counts with the others of its server."""

from __future__ import annotations

import logging

from rolloutobs.settings import Settings
from rolloutobs.telemetry.app_metrics import CollectorError
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.keeper import Keeper
from rolloutobs.telemetry.server_folder import folder_of, locate
from rolloutobs.telemetry.shared import SharedFolder
from rolloutobs.telemetry.store import Store
from rolloutobs.telemetry.workers import Server

__all__ = ["Sharing"]

_logger = logging.getLogger("rolloutobs")


class Sharing:
    """The part that this process has in the counts of `server`.

    Args:
        server: whose workers share.
        settings: those of the first app: its service and version name the folder.
        store: what is counted in this process.
        failures: counts what goes wrong, as ``where="store"``.
    """

    def __init__(self, server: Server, settings: Settings, store: Store, failures: Failures) -> None:
        folder, is_given = folder_of(server, settings), settings.metrics_dir is not None

        def report(error: BaseException | str) -> None:
            is_of_app = isinstance(error, CollectorError)
            failures.record(Where.METRICS if is_of_app else Where.STORE, error)

        self.server = server
        self._store = store
        self._report = report
        self.folder = SharedFolder(
            # The user may change between fork and start: then another folder is needed.
            lambda: locate(folder if is_given else folder_of(server, settings), is_given=is_given),
            report,
            settings.max_label_sets,
        )
        self.keeper = Keeper(store, self.folder, report)

    def start(self) -> bool:
        """Share; return whether that works. Where it does not, it is explained, and this process counts for
        itself.
        """
        try:
            self._store.share(self.folder)
        except OSError as error:
            self._report(error)
            _logger.warning(
                "this is one of several workers (%s), which have no folder to share their counts in (%s): "
                "each answers a scrape for itself, so the counters jump from worker to worker. "
                "Set ROLLOUTOBS_METRICS_DIR to a folder that all of them can write to",
                self.server.kind,
                error,
            )
            return False
        if self.server.is_this:
            self.keeper.start_in_children()
        else:
            self.keeper.start()
        return True

    def stop(self) -> None:
        """Share no longer."""
        self.keeper.stop()
        self.folder.close()
