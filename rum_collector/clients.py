"""Who sends: an address becomes a number for the limiter and a group of networks, and is kept nowhere.

Belongs here: addresses, proxies, hashes. Nothing outside of this module sees an address.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from rolloutobs import semconv

__all__ = ["Client", "Clients"]

_CACHED: Final = 8192
_UNKNOWN: Final = IPv6Address(0)
# Source: RFC 6177: one site has a /64 at the least; a /48 is what a site with many networks has.
_HOST_BITS: Final = {4: 32, 6: 64}
_NETWORK_BITS: Final = {4: 24, 6: 48}


class Client(NamedTuple):
    """What is left of an address."""

    key: int
    """For the limiter; salted, so that it means nothing outside of this process."""
    source: str
    """One of ``RUM_SOURCES`` groups of networks, ``"00"`` to ``"15"``."""


class Clients:
    """Tells clients apart.

    Args:
        trusted: networks of proxies whose ``X-Forwarded-For`` is believed.
        salt: of the limiter's numbers; of one process.
        key: of the groups of networks; the same in all replicas that are to agree.
    """

    def __init__(self, trusted: tuple[str, ...], salt: bytes, key: bytes) -> None:
        self._trusted = tuple(ip_network(text, strict=False) for text in trusted)
        self._salt = salt[:64]
        self._key = key[:64]
        # The same visitor sends several beacons, and an ingress is one address: hashing takes longer.
        self.of = lru_cache(maxsize=_CACHED)(self._of)
        """Returns the `Client` of a peer and its header ``X-Forwarded-For`` (empty: none)."""

    def _of(self, peer: str, forwarded: str) -> Client:
        address = self._address(peer, forwarded)
        host = _prefix(address, _HOST_BITS)
        network = _prefix(address, _NETWORK_BITS)
        key = blake2b(host, digest_size=8, key=self._salt).digest()
        group = blake2b(network, digest_size=8, key=self._key).digest()
        source = int.from_bytes(group, "little") % semconv.RUM_SOURCES
        return Client(int.from_bytes(key, "little"), f"{source:02}")

    def _address(self, peer: str, forwarded: str) -> IPv4Address | IPv6Address:
        """Return the nearest address that is none of our proxies: what is further left anyone can write."""
        nearest = _parsed(peer) or _UNKNOWN
        for hop in reversed(forwarded.split(",") if forwarded else ()):
            if not self._is_trusted(nearest):
                break
            further = _parsed(hop.strip())
            if further is None:
                break
            nearest = further
        return nearest

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted if network.version == address.version)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if text.count(":") == 1:
        # IPv4 with a port, as some proxies write it.
        text = text.partition(":")[0]
    elif text.startswith("["):
        text = text[1:].partition("]")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _prefix(address: IPv4Address | IPv6Address, bits: dict[int, int]) -> bytes:
    unused = address.max_prefixlen - bits[address.version]
    return bytes([address.version]) + (int(address) >> unused).to_bytes(16, "big")
