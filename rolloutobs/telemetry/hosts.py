"""To which hosts our identity may go: by default to those of the cluster and of private networks.

A version number tells an attacker which holes are open, and is nobody's business outside. What is not
known to be inside counts as outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from rolloutobs.errors import ConfigurationError

__all__ = ["HostList", "hosts_of"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Sources: RFC 1918 (private), RFC 6598 (shared address space; pods of some clusters), RFC 1122 (this host,
# loopback), RFC 3927 and RFC 4291 (link-local), RFC 4193 (unique local).
_PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "0.0.0.0/32",
        "169.254.0.0/16", "::1/128", "::/128", "fe80::/10", "fc00::/7",
    )
)  # fmt: skip
# Sources: Kubernetes "DNS for Services and Pods"; ICANN SAC113 (.internal); RFC 6762 (.local); RFC 6761
# (.localhost).
_INSIDE = (".svc", ".cluster.local", ".internal", ".local", ".localhost")
# Source: WHATWG URL, "ends in a number": such a name is an IPv4 address in disguise.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
# Source: RFC 1035 section 2.3.4, and underscores as container platforms use them.
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,253}[a-z0-9_])?")
# Source: gRPC name resolution; none of them leads off this host.
_LOCAL_SCHEMES = ("unix:", "unix-abstract:", "vsock:")
_GRPC_ADDRESSES = ("ipv4:", "ipv6:")
_DNS = re.compile(r"dns:(//[^/]*/)?")
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//([^/?#]*)")
# Source: RFC 3986 section 3.2; what is not in it is read differently by different parsers.
_AUTHORITY = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:@\[\]-]+")
_MAX_URL_CHARS = 2048
_MAX_KNOWN = 1024


class HostList:
    """The hosts that may know who calls.

    Names without a dot, ``*.svc``, ``*.cluster.local``, ``*.internal``, ``*.local``, ``localhost`` and
    private, loopback and link-local addresses always may. A name such as ``users.shop`` may not: ``.shop`` is
    a domain of the internet like any other.

    Args:
        patterns: further ones: ``*.example.com`` (below it, at any depth), ``example.com``,
            ``shop-*.example.com``, ``203.0.113.0/24``; ``*`` is everything, unknown hosts included.

    Raises:
        ConfigurationError: a pattern has a scheme, a port or a path.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        given = [pattern.strip().lower() for pattern in patterns]
        self.all = "*" in given
        """Whether everyone may know."""
        self._networks = [network for network in map(_network, given) if network is not None]
        names = [_checked(pattern) for pattern in given if _network(pattern) is None]
        self._names = [re.compile(translate(name.rstrip("."))) for name in names]
        # Few hosts are called, over and over.
        self._known: Callable[[str], bool] = lru_cache(_MAX_KNOWN)(self._looked_up)

    def allows(self, target: str) -> bool:
        """Return whether all hosts of `target` (`hosts_of`) may know; not where none can be read from it."""
        return self.all or (len(target) <= _MAX_URL_CHARS and self._known(target))

    def _looked_up(self, target: str) -> bool:
        hosts = hosts_of(target)
        return bool(hosts) and all(map(self._allows_host, hosts))

    def _allows_host(self, host: str) -> bool:
        address = _address(host)
        if address is not None:
            return any(address in network for network in (*_PRIVATE, *self._networks))
        if not _NAME.fullmatch(host):
            return False
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return False
        if "." not in host or host.endswith(_INSIDE):
            return True
        return any(name.fullmatch(host) for name in self._names)


def _network(pattern: str) -> Network | None:
    try:
        return ip_network(pattern)
    except ValueError:
        return None


def _checked(pattern: str) -> str:
    if pattern != "*" and not _NAME.fullmatch(pattern.replace("*", "x").rstrip(".")):
        raise ConfigurationError(
            f"identity_hosts (ROLLOUTOBS_IDENTITY_HOSTS) has {pattern!r}; use host names such as "
            "'*.example.com' or networks such as '203.0.113.0/24', without scheme, port and path"
        )
    return pattern


def _address(host: str) -> Address | None:
    try:
        # Without the zone of a link-local address.
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def hosts_of(target: str) -> tuple[str, ...]:
    """Return the hosts that a URL, a gRPC target or ``host:port`` leads to, in lower case without brackets.

    Most have one; ``ipv4:10.0.0.1:50051,10.0.0.2:50051`` has two. A path has none, nor has a host that two
    readers could take for different ones (blanks, backslashes). Unix sockets lead to ``localhost``. Never
    raises.

    Source: RFC 3986 section 3.2, and gRPC name resolution (``dns:///users:50051``).
    """
    text = target.lower()
    if text.startswith(_LOCAL_SCHEMES):
        return ("localhost",)
    if text.startswith(_GRPC_ADDRESSES):
        found = tuple(_host(part) for part in text.partition(":")[2].lstrip("/").split(","))
        return found if all(found) else ()
    if text.startswith("dns:"):
        # The authority of this scheme is the name server.
        host = _host(_DNS.sub("", text))
    elif ":///" in text:
        host = _host(text.partition(":///")[2])
    else:
        url = _URL.match(text)
        host = _host(text) if url is None else _authority(url[1])
    return (host,) if host else ()


def _host(text: str) -> str:
    """Return the host of ``host``, ``host:port``, ``[v6]:port`` or a bare address; empty if it is none."""
    return text if _address(text) is not None else _authority(text)


def _authority(text: str) -> str:
    """Return the host of ``user@host:port``; empty if it is none."""
    if not _AUTHORITY.fullmatch(text):
        return ""
    try:
        return (urlsplit("//" + text).hostname or "").rstrip(".")
    except ValueError:
        return ""
