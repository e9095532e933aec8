import os

import pytest

from rolloutobs.detection.labels import NO_LABELS, parse_labels, read_labels


def test_the_lines_of_a_downward_api_file():
    text = 'app="shop"\napp.kubernetes.io/version="1.2.0"\nrolloutobs.io/track="canary"'
    labels = parse_labels(text)
    assert dict(labels.values) == {
        "app": "shop",
        "app.kubernetes.io/version": "1.2.0",
        "rolloutobs.io/track": "canary",
    }
    assert not labels.problem


def test_go_quoting_is_undone():
    labels = parse_labels(r'a="\"x\\y\" \t\n\x41\u00e9\U0001F600\a"' + '\n\nb="="\nc=""\n')
    assert dict(labels.values) == {"a": '"x\\y" \t\nAé😀\a', "b": "=", "c": ""}
    assert parse_labels(r'a="\UFFFFFFFF"').values["a"] == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("text", ["canary", "canary\n", ' "canary" \n'])
def test_the_bare_value_of_a_single_label(text):
    labels = parse_labels(text)
    assert labels.single == "canary"
    assert not labels.values


@pytest.mark.parametrize("text", ["", "\n", "  "])
def test_a_pod_without_labels(text):
    labels = parse_labels(text)
    assert (dict(labels.values), labels.single, labels.problem, labels.is_missing) == ({}, "", "", False)


@pytest.mark.parametrize("cut", range(1, len('track="canary"')))
def test_a_half_written_line_spoils_the_file(cut):
    labels = parse_labels('role="stable"\n' + 'track="canary"'[:cut])
    assert labels.problem.startswith("line 2 is not key=")
    assert not labels.values


def test_a_half_written_escape_is_not_the_end_of_a_value():
    assert parse_labels('a="x\\"').problem


def test_reading_says_what_is_wrong(tmp_path):
    path = tmp_path / "labels"
    assert read_labels(str(path)) == NO_LABELS
    assert read_labels(None) == NO_LABELS
    assert read_labels(str(path / "below")) == NO_LABELS
    path.write_text('track="canary"')
    assert read_labels(str(path / "below")) == NO_LABELS
    assert read_labels(str(path)).values["track"] == "canary"
    path.write_text('track="can')
    assert "line 1 is not key=" in read_labels(str(path)).problem
    path.write_bytes(b'track="\xff"')
    assert "cannot be read" in read_labels(str(path)).problem
    path.write_bytes(b"x" * ((1 << 20) + 1))
    assert "larger than" in read_labels(str(path)).problem
    assert "not a regular file" in read_labels(str(tmp_path)).problem
    assert "cannot be read" in read_labels("nul\0").problem


def test_a_named_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "labels"
    os.mkfifo(path)
    assert "not a regular file" in read_labels(str(path)).problem


def test_a_loop_of_links_is_a_problem_and_a_dangling_link_a_missing_file(tmp_path):
    path = tmp_path / "labels"
    path.symlink_to(path)
    assert "cannot be read" in read_labels(str(path)).problem
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert read_labels(str(path)) == NO_LABELS
