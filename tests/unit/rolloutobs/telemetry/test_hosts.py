import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.errors import ConfigurationError
from rolloutobs.telemetry.hosts import HostList, hosts_of


@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("http://users:8080/u/1?a=b|c", ("users",)),
        ("https://Shop@Users.SVC.:443", ("users.svc",)),
        ("http://users/müller \\ x", ("users",)),
        ("//users/x", ("users",)),
        ("http://[::1]:8080/", ("::1",)),
        ("http://[fe80::1%25eth0]/", ("fe80::1%25eth0",)),
        ("users", ("users",)),
        ("users:50051", ("users",)),
        ("10.0.0.1:50051", ("10.0.0.1",)),
        ("::1", ("::1",)),
        ("[::1]:50051", ("::1",)),
        ("dns:users:50051", ("users",)),
        ("dns:///users.shop.svc:50051", ("users.shop.svc",)),
        ("dns://8.8.8.8/users:50051", ("users",)),
        ("xds:///users", ("users",)),
        ("ipv4:10.0.0.1:50051,8.8.8.8:50051", ("10.0.0.1", "8.8.8.8")),
        ("ipv6:[::1]:50051", ("::1",)),
        ("unix:/run/app.sock", ("localhost",)),
        ("unix:///run/app.sock", ("localhost",)),
        ("unix-abstract:name", ("localhost",)),
        # What different readers take for different hosts.
        ("http://evil.com\\@localhost/", ()),
        ("http://localhost\t.evil.com/", ()),
        ("http://lo calhost/", ()),
        ("http://ｌocalhost/", ()),
        ("/relative/path", ()),
        ("http:///path", ("path",)),
        ("http://", ()),
        ("http://[::1/", ()),
        ("ipv4:10.0.0.1:1,", ()),
        ("", ()),
        (":8080", ()),
    ],
)
def test_hosts_are_read_from_every_form(target, hosts):
    assert hosts_of(target) == hosts


@pytest.mark.parametrize(
    "target",
    [
        "http://users/", "http://users_v2:80/", "http://users.shop.svc/", "http://users.shop.svc.cluster.local./",
        "http://api.internal", "http://printer.local", "http://localhost:1", "http://a.localhost/", "http://10.1.2.3/",
        "http://172.16.0.1", "http://172.31.255.255", "http://192.168.0.1", "http://100.64.0.1", "http://127.1.1.1",
        "http://169.254.1.1", "http://0.0.0.0:8000", "http://[::1]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
        "http://[fd00::1]/", "http://[::ffff:10.0.0.1]/", "unix:/run/x.sock", "ipv4:10.0.0.1:1,10.0.0.2:1",
    ],
)  # fmt: skip
def test_the_cluster_and_private_networks_may_know(target):
    assert HostList().allows(target)


@pytest.mark.parametrize(
    "target",
    [
        "https://api.stripe.com/", "http://users.shop/", "http://x.svc.evil/", "http://svc.com",
        "http://notlocal.example", "http://xinternal.com", "http://8.8.8.8/", "http://172.32.0.1/", "http://100.128.0.1",
        "http://134744072/", "http://0x08080808/", "http://010.0.0.1/", "http://8.8.8.8.", "http://1.2.3.0x4/",
        "http://[2001:db8::1]/", "http://[::ffff:8.8.8.8]/", "http://localhost@evil.com/",
        "http://evil.com\\@localhost/",
        "http://users.shop.svc.evil.com", "ipv4:10.0.0.1:1,8.8.8.8:1", "http://-/", "", "/x", "http://.svc/",
        "x" * 5000,
    ],
)  # fmt: skip
def test_everyone_else_may_not(target):
    assert not HostList().allows(target)
    assert HostList(["*"]).allows(target)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.example.com", ["a.example.com", "a.b.EXAMPLE.com."], ["example.com", "a.example.com.x"]),
        ("*.example.com", [], ["aexample.com"]),
        ("example.com", ["example.com"], ["a.example.com", "examplex.com"]),
        ("shop-*.example.com", ["shop-eu.example.com"], ["shop.example.com"]),
        ("203.0.113.0/24", ["203.0.113.7"], ["203.0.114.7", "example.com"]),
        ("2001:db8::/32", ["[2001:db8::7]"], ["[2001:db9::7]"]),
        ("203.0.113.7", ["203.0.113.7"], ["203.0.113.8"]),
    ],
)  # fmt: skip
def test_patterns_add_hosts(pattern, yes, no):
    hosts = HostList([f" {pattern.upper()} "])
    assert not hosts.all
    assert [host for host in (*yes, *no) if hosts.allows(f"https://{host}:8443/x")] == yes
    assert hosts.allows("http://users/")


@pytest.mark.parametrize(
    "pattern",
    ["https://example.com", "example.com:443", "example.com/x", "", "a b", "*.exämple.com", "10.0.0.0/33"],
)
def test_what_is_no_host_is_refused_at_start_up(pattern):
    with pytest.raises(ConfigurationError, match="ROLLOUTOBS_IDENTITY_HOSTS"):
        HostList([pattern])


@given(st.text(), st.sampled_from(["", "http://", "dns:", "ipv4:", "ipv6:", "unix:", "//", "xds:///"]))
def test_no_text_breaks_it(text, scheme):
    assert isinstance(HostList(["*.example.com"]).allows(scheme + text), bool)
