"""A file that is no space file at all is refused at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from space_helpers import FACTS, load_text, problems_of

from sweeper.errors import SpaceFileError, UserError
from sweeper.space import load_space

FILES = {
    "an empty file": (b"", "s.yaml:1:1", "empty"),
    "a file of comments": (b"# nothing\n", "s.yaml:1:1", "empty"),
    "not a mapping": (b"- 1\n", "s.yaml:1:1", "mapping"),
    "a text": (b"hello\n", "s.yaml:1:1", "mapping"),
    "not YAML": (b"name: [1\n", "s.yaml:2:1", "not YAML"),
    "a colon too many": (b"name: a: b\n", "s.yaml:1:8", "not YAML"),
    "a tab": (b"training:\n\tlr: 1\n", "s.yaml:2:1", "indented by spaces"),
    "not UTF-8": (b"name: a\nmodel_path: caf\xe9\n", "s.yaml:2:16", "UTF-8"),
    "a control character": (b"name: \x01\n", "s.yaml", "not YAML"),
    "a key twice": (b"name: a\nname: b\nmodel_path: m\ndata_path: d\n", "s.yaml:2:1", "twice"),
    "an unknown alias": (b"name: *a\n", "s.yaml:1:7", "anchor"),
    "two documents": (b"name: a\n---\nname: b\n", "s.yaml:2:1", "one document"),
    "a tag": (b"name: !!python/object:os.system x\n", "s.yaml:1:7", "tag"),
    "a key that is a list": (b"? [a]\n: 1\n", "s.yaml:1:3", "a key is a word"),
    "an alias of itself": (b"name: &a [*a]\n", "s.yaml:1:7", "nested"),
    "too many brackets": (b"name: " + b"[" * 100_000, "s.yaml:1:38", "nested"),
    "a missing key": (b"name: a\nmodel_path: m\n", "s.yaml:1:1", "missing"),
    "a name that is a path": (b"name: a/b\nmodel_path: m\ndata_path: d\n", "s.yaml:1:7", "path separators"),
    "a name with a blank": (b"name: a b\nmodel_path: m\ndata_path: d\n", "s.yaml:1:7", "letters, digits"),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_is_no_space_file_is_refused_at_its_place(fault, tmp_path):
    content, place, rule = FILES[fault]
    found = problems_of(tmp_path, content)
    assert [one.where for one in found][:1] == [place]
    assert rule in found[0].rule


def test_aliases_are_expanded(tmp_path):
    text = "&t training: {epochs: &few [1, 2], seed: *few}\nsearch: &few {trials: 3}\ncheckpoint_path: *t\n"
    space = load_text(tmp_path, text)
    assert [one.name for one in space.dimensions] == ["epochs", "seed"]
    assert (space.settings.search.trials, space.settings.checkpoint_path) == (3, "training")
    assert space.places["training.seed"] == f"{tmp_path}/s.yaml:4:23"


def test_a_device_that_never_ends_is_refused():
    with pytest.raises(SpaceFileError, match="at most"):
        load_space(Path("/dev/zero"), gather=lambda settings: FACTS)


def test_a_small_file_of_aliases_cannot_become_a_huge_tree(tmp_path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (one,) = problems_of(tmp_path, "\n".join(levels).encode())
    assert "once its aliases are expanded" in one.rule


def test_what_is_printed_is_short_and_fit_for_a_terminal():
    one = {"where": "a\u202e:1:1", "rule": "r\x1b[2J" * 9_000, "remedy": "\ud800\n"}
    error = UserError([UserError.of(value="v\0" * 9_000, **one).problems[0]] * 60)
    told = str(error)
    assert told.replace("\n", "").isprintable()
    assert told.startswith("a\\u202e:1:1: v\\x00v")
    assert told.endswith("-> \\ud800\\n\nand 10 more problems")
    assert len(told) < 50 * 10_000
    assert len(error.problems) == 60
