import pytest

from rolloutobs.telemetry.cells import Allocator, HistogramCell, NumberCell
from rolloutobs.telemetry.store import PROCESS, Store
from rolloutobs.testing import sample_value


class Shelf:
    """A backing that keeps everything in this process, and remembers what it was asked for."""

    def __init__(self):
        self.made = []
        self.renewed = 0
        self.published = 0
        self.store = None

    def allocator(self, book) -> Allocator:
        shelf = self

        class OfBook:
            def number(self, definition, values):
                shelf.made.append((book, definition.name, values))
                return NumberCell()

            def histogram(self, definition, values):
                shelf.made.append((book, definition.name, values))
                return HistogramCell(definition.bounds)

        return OfBook()

    def read(self):
        return dict(self.store._families)

    def renew(self):
        self.renewed += 1

    def publish(self):
        self.published += 1


def samples(store, book=PROCESS):
    return [sample for metric in store.collect(book) for sample in metric.samples]


def test_a_family_is_made_once_per_book_and_name():
    store = Store()
    one = store.counter("orders_total", "Orders.", ("kind",))
    assert store.counter("orders_total", "Orders.", ("kind",)) is one
    assert store.counter("orders_total", "Orders.", ("kind",), book="app0") is not one
    with pytest.raises(ValueError, match="orders_total is defined twice"):
        store.counter("orders_total", "Orders.", ("other",))


def test_books_are_collected_apart():
    store = Store()
    store.counter("orders_total", "Orders.", book="app0").cell().inc()
    store.counter("orders_total", "Orders.", book="app1").cell().inc(2)
    assert sample_value(samples(store, "app0"), "orders_total") == 1
    assert sample_value(samples(store, "app1"), "orders_total") == 2
    assert samples(store) == []


def test_what_does_not_fit_is_counted():
    store = Store()
    family = store.counter("orders_total", "Orders.", ("kind",), max_sets=1)
    name = "rolloutobs_label_sets_dropped_total"
    assert sample_value(samples(store), name, metric="orders_total") == 0
    for kind in ("a", "b", "c"):
        family.cell(kind).inc()
    assert sample_value(samples(store), name, metric="orders_total") == 2
    assert sample_value(samples(store), "orders_total", kind="_overflow") == 2


def test_sharing_takes_the_counts_along_and_tells_those_who_hold_cells():
    store, shelf = Store(), Shelf()
    shelf.store = store
    orders = store.counter("orders_total", "Orders.", ("kind",), book="app0")
    seconds = store.histogram("work_seconds", "Work.", (), (0.1, 1.0))
    held = orders.cell("a")
    held.inc(3)
    seconds.cell().observe(0.5)
    told = []
    store.on_move(lambda: told.append(True))
    store.share(shelf)
    assert told == [True]
    assert orders.cell("a") is not held
    assert sample_value(samples(store, "app0"), "orders_total", kind="a") == 3
    assert sample_value(samples(store), "work_seconds_bucket", le="1.0") == 1
    assert sample_value(samples(store), "work_seconds_sum") == 0.5
    store.gauge("late", "Made later.").cell().value = 1
    assert ("", "late", ()) in shelf.made


@pytest.mark.parametrize("shared", [False, True])
def test_a_forked_process_starts_over(shared):
    store, shelf = Store(), Shelf()
    shelf.store = store
    if shared:
        store.share(shelf)
    orders = store.counter("orders_total", "Orders.")
    orders.cell().inc(3)
    store.forked()
    assert sample_value(samples(store), "orders_total") == 0
    orders.cell().inc()
    assert sample_value(samples(store), "orders_total") == 1
    assert shelf.renewed == shelf.published == 2 * int(shared)
