from __future__ import annotations

import gzip
from pathlib import Path

import brotli
import pytest

from rum_collector.bundle import Bundle, accepted_codings

CODE = b"(()=>{})();" * 50


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "rolloutobs.js"
    path.write_bytes(CODE)
    return path


def test_no_script_is_no_bundle(tmp_path: Path) -> None:
    assert Bundle.read(tmp_path / "rolloutobs.js") is None


def test_gzip_is_always_there_and_brotli_where_it_was_built(script: Path) -> None:
    bundle = Bundle.read(script)
    assert bundle is not None
    assert bundle.best("br, gzip").coding == "gzip"
    assert gzip.decompress(bundle.best("gzip").body) == CODE
    script.with_name("rolloutobs.js.br").write_bytes(brotli.compress(CODE))
    bundle = Bundle.read(script)
    assert bundle is not None
    assert brotli.decompress(bundle.best("gzip, deflate, br, zstd").body) == CODE
    assert bundle.best("").body == bundle.best("identity").body == bundle.best("br;q=0").body == CODE
    assert len({variant.etag for variant in bundle.variants}) == 3


def test_the_etag_follows_the_code(script: Path) -> None:
    before = Bundle.read(script)
    again = Bundle.read(script)
    script.write_bytes(CODE + b"\n")
    after = Bundle.read(script)
    assert before is not None
    assert again is not None
    assert after is not None
    assert before == again
    assert before.best("gzip").etag != after.best("gzip").etag


@pytest.mark.parametrize(
    ("header", "codings"),
    [
        ("", set()),
        ("gzip, deflate, br", {"gzip", "deflate", "br"}),
        ("GZIP ; q=0.5 ,br;q=0", {"gzip"}),
        ("br;q=0.000, gzip;q=1", {"gzip"}),
        (",,;q=1", set()),
    ],
)
def test_accept_encoding(header: str, codings: set[str]) -> None:
    assert accepted_codings(header) == codings
