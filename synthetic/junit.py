"""Results as JUnit XML, which every CI shows: one suite for each check, one case for each pair.

Belongs here: that format. Pure.
Source: https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import re
from typing import assert_never
from xml.etree.ElementTree import Element, SubElement, tostring

from synthetic.report import Summary, pair_text, reason, sentence
from synthetic.result import Pair, PairVerdict

__all__ = ["junit_xml", "xml_safe"]

# Source: XML 1.0 section 2.2; the rest is not allowed even as a reference.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(summary: Summary) -> str:
    """Return the last pairs (at most 100) as JUnit XML.

    A pair in which the canary failed alone is a failure, one that blames nobody an error, an inconclusive one
    is skipped, and one that passed on retry has passed, with a property that says so.
    """
    root = Element("testsuites", name=xml_safe(summary.app))
    suites: dict[str, Element] = {}
    for pair in summary.last:
        if pair.check not in suites:
            suites[pair.check] = SubElement(root, "testsuite", name=xml_safe(pair.check))
        _add(suites[pair.check], pair)
    for suite in suites.values():
        suite.set("tests", str(len(suite)))
        for kind, word in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(word, str(len(suite.findall(f"testcase/{kind}"))))
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _add(suite: Element, pair: Pair) -> None:
    number = len(suite) + 1
    case = SubElement(suite, "testcase", classname=xml_safe(pair.check), name=f"pair {number}")
    case.set("time", f"{max(run.seconds for run in pair.runs):.3f}")
    kind = _kind(pair.verdict)
    if pair.verdict is PairVerdict.FLAKY:
        SubElement(SubElement(case, "properties"), "property", name="flaky", value="passed on retry")
    if kind:
        why = reason(pair.canary) or reason(pair.stable)
        told = SubElement(case, kind, message=xml_safe(f"{sentence(pair)}: {why}".removesuffix(": ")))
        told.text = xml_safe(pair_text(number, pair))


def _kind(verdict: PairVerdict) -> str:
    match verdict:
        case PairVerdict.PASS | PairVerdict.FLAKY:
            return ""
        case PairVerdict.CANARY_FAILED:
            return "failure"
        case PairVerdict.BOTH_FAILED | PairVerdict.ERROR:
            return "error"
        case PairVerdict.INCONCLUSIVE:
            return "skipped"
        case other:
            assert_never(other)


def xml_safe(text: str) -> str:
    """Return `text` with what XML does not allow replaced."""
    return _NOT_XML.sub("\ufffd", text)
