"""``rolloutobs policy show``, and the line that a mistake in a policy file stands on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from rolloutobs.analysis.loading import flat
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.provenance import SOURCES, source_of
from rolloutobs.cli import main
from rolloutobs.cli.options import read_policy
from rolloutobs.errors import ConfigurationError

DOCS = Path(__file__).parents[3] / "docs" / "verdict.md"


# --- where defaults come from ----------------------------------------------------------------------------


def test_every_default_says_where_it_comes_from() -> None:
    settings = flat(Policy().to_mapping())
    silent = []
    for path in settings:
        parts = path.split(".")
        # Series are one thing: their metric and labels need no source of their own.
        whole = ".".join(parts[:3]) if parts[0] == "signals" else path
        if source_of(whole) is None:
            silent.append(path)
    assert silent == []
    names = {".".join(p.split(".")[:3]) for p in settings}
    used = {key for path in names for key in SOURCES if source_of(path) is SOURCES[key]}
    assert used == set(SOURCES)


def test_the_paragraphs_that_are_named_are_there() -> None:
    text = DOCS.read_text(encoding="utf-8").lower()
    for source in SOURCES.values():
        for name in re.findall('"([^"]+)"', source):
            assert f"**{name.lower()}" in text or f"## {name.lower()}" in text, name


def test_show_prints_each_setting_with_its_source_and_what_it_prints_can_be_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# ours\nalpha: 0.05\nsignals:\n  errors: {margin_ratio: 2}\n", encoding="utf-8")
    assert main(["policy", "show", "--policy", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "alpha: 0.05  # mine.yaml, line 2, instead of 0.01\n" in shown
    assert "    margin_ratio: 2.0  # mine.yaml, line 4, instead of 1.5\n" in shown
    assert 'clip_nats: 1.5  # simulated: "Ticks"\n' in shown
    assert Policy.from_mapping(yaml.safe_load(shown)) == read_policy(file)


def test_show_names_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", "--metrics", "istio"]) == 0
    shown = capsys.readouterr().out
    assert "metric: istio_requests_total  # --metrics istio\n" in shown
    assert main(["policy", "show", "--metrics", "istio", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == yaml.safe_load(shown)


# --- lines -----------------------------------------------------------------------------------------------

NESTED = """\
alpha: 0.05

past:
  windows_seconds:
    - 30
    - 0
share: {on_silence: hold}
signals:
  errors:
    margin_ratio: 2
    # a comment
    exposures:
      metric: hits
      labels: {code: 5}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("alpha: 0.05", "alhpa: 0.05", 1, "alhpa is not a setting"),
        ("alpha: 0.05", "alpha: 2", 1, "alpha is 2.0; use a number from"),
        ("{code: 5}", "{code: 5}", 14, "signals.errors.exposures.labels.code is 5; use a text"),
        ("{code: 5}", "{code: '5'}", 4, "past: windows_seconds is"),
        ("on_silence: hold", "on_silence: shout", 7, "share.on_silence is 'shout'; use one of"),
        ("margin_ratio: 2", "margin: 2", 10, "signals.errors.margin is not a setting"),
        ("margin_ratio: 2", "weight: 0", 10, "signals.errors: weight is 0.0"),
        (
            "    margin_ratio: 2\n",
            "    margin_ratio: 2\n    margin_ratio: 3\n",
            11,
            "stands here and on line 10",
        ),
        ("alpha: 0.05", "traffic: gold", 1, "there is no signal 'gold'"),
        ("    - 0", "    - 60\nresources: {on_failure: rollback}", 7, "resources: on_failure is 'rollback'"),
    ],
)
def test_a_mistake_in_yaml_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    file = tmp_path / "policy.yaml"
    text = NESTED.replace(old, new)
    # All but the mistake in question are mended.
    if "code" not in words:
        text = text.replace("{code: 5}", "{code: '5'}")
    if "windows_seconds" not in words:
        text = text.replace("    - 0", "    - 60")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"line {line}: .*{re.escape(words)}"):
        read_policy(file)


TOML = '''\
alpha = 0.05
strata_labels = [
  "cluster", # [signals.errors]
]

[past]
windows_seconds = [30,
  60]

[signals.errors]
title = """
margin_ratio = 3
"""
margin_ratio = 2
exposures = {metric = "hits", labels = {code = "5"}}
"signals".x = 1
'''


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("alpha = 0.05", "alpha = 2", 1, "alpha is 2.0"),
        ('  "cluster",', "  1,", 2, "strata_labels is 1; use a text"),
        ("  60]", "  0]", 7, "past: windows_seconds is"),
        ("margin_ratio = 2", "margin_ratio = 0", 14, "margin_ratio is 0.0"),
        ('code = "5"', "code = 5", 15, "signals.errors.exposures.labels.code is 5"),
        ('"signals".x = 1', "phrase = '{y}'", 16, "phrase is"),
        ("zzz", "zzz", 16, "signals.errors.signals is not a setting"),
    ],
)
def test_a_mistake_in_toml_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    file = tmp_path / "policy.toml"
    text = TOML.replace(old, new)
    if "is not a setting" not in words:
        text = text.replace('"signals".x = 1\n', "")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"line {line}: .*{re.escape(words)}"):
        read_policy(file)


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "alpha: [1\nb: 2"), ("a.toml", "alpha = 1\nb = ?\n")])
def test_what_does_not_parse_is_told_with_its_line(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"line 2"):
        read_policy(file)
