"""Workers of one server in one process: each with a store, a folder and a registry of its own.

A lock belongs to a descriptor, not to a process, so they see each other as processes do.
"""

from prometheus_client import CollectorRegistry

from rolloutobs.telemetry.cells import MAX_LABEL_SETS
from rolloutobs.telemetry.shared import SharedFolder
from rolloutobs.telemetry.store import Store


class Worker:
    def __init__(self, path, most=MAX_LABEL_SETS):
        self.reports = []
        self.store = Store()
        self.registry = CollectorRegistry()
        self.path = path
        self.folder = SharedFolder(self.locate, self.report, most, self.registry)
        self.store.share(self.folder)

    def locate(self):
        self.path.mkdir(exist_ok=True)
        return self.path

    def report(self, error):
        self.reports.append(str(error))

    def orders(self, kind="a", book="app0"):
        return self.store.counter("orders_total", "Orders.", ("kind",), book=book).cell(kind)

    def seconds(self, kind="a", bounds=(0.1, 1.0)):
        return self.store.histogram("work_seconds", "Work.", ("kind",), bounds, book="app0").cell(kind)

    def gauge(self, merge):
        return self.store.gauge(f"size_{merge.value}", "Size.", book="app0", merge=merge).cell()

    def shown(self, book="app0"):
        """Values by name and label values."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for metric in self.store.collect(book)
            for sample in metric.samples
        }

    def kill(self):
        """End without a word."""
        self.folder.close()
