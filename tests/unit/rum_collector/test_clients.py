from __future__ import annotations

import pytest

from rum_collector.clients import Clients

TRUSTED = ("10.0.0.0/8", "fd00::/8")


def clients(salt: bytes = b"salt", key: bytes = b"key") -> Clients:
    return Clients(TRUSTED, salt, key)


@pytest.mark.parametrize(
    ("peer", "forwarded", "same_as"),
    [
        # Nobody's header is believed but that of our proxies.
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:203.0.113.7", "", "203.0.113.7"),
        ("fd00::1", "[2001:db8::1]:443", "2001:db8::1"),
        # One site has a /64.
        ("2001:db8::1", "", "2001:db8::2"),
        ("", "", "not an address"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: str, same_as: str) -> None:
    found = clients()
    assert found.of(peer, forwarded).key == found.of(same_as, "").key


def test_networks_are_in_the_same_group_everywhere_and_keys_mean_nothing_elsewhere() -> None:
    one, other = clients(salt=b"1"), clients(salt=b"2")
    assert one.of("203.0.113.7", "").key != other.of("203.0.113.7", "").key
    assert one.of("203.0.113.7", "").source == other.of("203.0.113.200", "").source
    assert one.of("203.0.113.7", "").key != one.of("203.0.113.8", "").key
    groups = {one.of(f"203.0.{i}.1", "").source for i in range(200)}
    assert groups == {f"{i:02}" for i in range(16)}
    rekeyed = clients(key=b"another")
    assert any(rekeyed.of(f"203.0.{i}.1", "").source != one.of(f"203.0.{i}.1", "").source for i in range(20))
