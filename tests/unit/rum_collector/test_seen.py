from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rum_collector.seen import SeenTable, key_of


def test_each_bit_of_a_key_is_new_once() -> None:
    table = SeenTable(100)
    assert table.use(7, 0b11, 100, 0) == 0b11
    assert table.use(7, 0b110, 100, 0) == 0b100
    assert table.use(7, 0b111, 100, 0) == 0
    assert table.use(8, 0b1, 100, 0) == 0b1


def test_workers_share_a_table_and_a_restart_finds_it_again(tmp_path: Path) -> None:
    path = tmp_path / "views.seen"
    one, other = SeenTable(1000, path), SeenTable(1000, path)
    assert one.use(7, 1, 100, 0) == 1
    assert other.use(7, 1, 100, 0) == 0
    assert SeenTable(1000, path).use(7, 1, 100, 0) == 0
    # Another size is another table.
    assert SeenTable(100_000, path).use(7, 1, 100, 0) == 1


def test_what_is_over_makes_room_first_and_nothing_is_forgotten_for_it() -> None:
    table = SeenTable(8, strict=True)
    for key in range(1, 9):
        assert table.use(key, 1, 100 + key, 0) == 1
    assert table.use(50, 1, 300, 150) == 1
    assert table.forgets_before() == 0


def test_a_full_table_takes_what_it_may_have_forgotten_for_used() -> None:
    strict, loose = SeenTable(8, strict=True), SeenTable(8)
    for table in (strict, loose):
        for key in range(1, 9):
            assert table.use(key, 1, 100 + key, 0) == 1
        assert table.use(50, 1, 200, 0) == 1
        # Key 1, which would count until 101, had to go.
        assert table.forgets_before() == 101
    assert loose.use(1, 1, 101, 0) == 1
    assert strict.use(1, 1, 101, 0) == 0
    # So does everything that ends before that moment.
    assert strict.use(99, 1, 90, 0) == 0
    assert strict.use(98, 1, 300, 0) == 1


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 500), st.integers(0, 200)), max_size=200))
@settings(max_examples=60)
def test_a_strict_table_never_grants_anything_twice(uses: list[tuple[int, int, int]]) -> None:
    table = SeenTable(16, strict=True)
    granted: dict[tuple[int, int], int] = {}
    now = 0
    for key, lasts, passed in uses:
        now += passed // 50
        # As with tokens: what is over is refused before it gets here, and a key ends when it ends.
        expires = 100 + key * 7
        if expires > now and table.use(key, 1, expires, now):
            granted[key, lasts % 1] = granted.get((key, lasts % 1), 0) + 1
    assert all(count == 1 for count in granted.values())


def test_keys_are_the_same_everywhere() -> None:
    # Not the hash of Python, which is another one in every process.
    assert key_of("view", 0) == 3_173_577_756_196_081_185
    assert key_of("view", 0) != key_of("view", 1)
    assert key_of("a", "b") != key_of("ab")
    assert 0 < key_of("\ud800") < 2**64
