"""What a result says about its own ranges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from recommend_helpers import SPACE, make_space, trial
from ruamel.yaml import YAML

from sweeper.recommend import range_lines, results_markdown, sweep_status, write_answer
from sweeper.space import Space, SweepFolder

WIDER = {"log_uniform": [1e-6, 0.1]}
SAID = (
    "the best lr, 0.0095, lies at the upper end of what was searched (1e-06 .. 0.01 (log)), and a better one "
    "may lie beyond: write lr: {log_uniform: [1e-06, 0.1]}"
)


@pytest.fixture
def trials() -> list:
    return [trial(0, 1.5, is_default=True), trial(1, 1.2, lr=3e-3), trial(2, 1.0, lr=9.5e-3)]


def test_a_best_trial_at_the_end_of_a_range_is_told_with_what_to_write_instead(space: Space, trials) -> None:
    assert range_lines(space, trials) == [f"{SAID}, or search.extend: true"]
    assert f"\n\n{SAID}" in results_markdown(space, trials)


def test_programs_get_the_value_the_end_and_what_to_write(space: Space, trials) -> None:
    status = json.loads(json.dumps(sweep_status(space, trials, "finished"), allow_nan=False))
    searched = {"log_uniform": [1e-6, 1e-2]}
    assert status["edges"] == [
        {"name": "lr", "value": 9.5e-3, "side": "upper", "searched": searched, "write": WIDER}
    ]
    assert sweep_status(space, trials[:2], "finished")["edges"] == []


def test_a_conditional_range_is_to_be_written_with_its_condition(tmp_path: Path, trials) -> None:
    text = SPACE.replace("1.0e-2]}", "1.0e-2], when: {scheduler: cosine}}")
    space = make_space(
        tmp_path, text.replace("epochs: [1, 2, 3]", "epochs: {choice: [1, 2], when: {scheduler: cosine}}")
    )
    (edge,) = sweep_status(space, trials, "finished")["edges"]
    assert edge["write"] == {**WIDER, "when": {"scheduler": "cosine"}}


def test_ranges_that_grew_are_told_and_belong_to_the_evidence(tmp_path: Path, trials) -> None:
    space = make_space(tmp_path, SPACE + "search: {extend: true}\n")
    grown = [*trials, replace(trial(3, 0.8, lr=0.02), attributes={"ranges": {"lr": WIDER}})]
    assert range_lines(space, grown) == ["lr was extended from 1e-06 .. 0.01 (log) to 1e-06 .. 0.1 (log)"]
    assert "search.extend" not in "".join(range_lines(space, trials))
    answer = YAML(typ="safe").load(write_answer(space, grown, SweepFolder(tmp_path), {}, {}))
    assert answer["provenance"]["extended"] == {"lr": WIDER}
    answer = YAML(typ="safe").load(write_answer(space, trials, SweepFolder(tmp_path), {}, {}))
    assert "extended" not in answer["provenance"]
