"""Tasks of EleutherAI's harness as metrics of a trial, with a task that is made here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sweeper.errors import MissingDependencyError, TrialFailedError, UserError
from sweeper.space import Evaluation, Objective
from sweeper.training.generate.harness import Harness, first_number

TASK = """\
task: which_word
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["Anna", "qzx"]
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    pytest.importorskip("lm_eval")
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("tasks")
    patch.setenv("HF_HUB_OFFLINE", "1")
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"question": f"Who has {n} apples? It is"}) for n in range(6)))
    (folder / "which_word.yaml").write_text(TASK.format(rows=rows))
    yield folder
    patch.undo()


def asking(config, folder, **options):
    evaluation = Evaluation(metrics=("lm_eval:which_word",), lm_eval_tasks=str(folder), rows=4, **options)
    return config.model_copy(update={"evaluation": evaluation})


def test_a_task_is_a_metric_of_the_last_evaluation_and_training_does_not_notice(tasks, quick_config, run):
    plain = quick_config()
    told, untold = run(asking(plain, tasks)), run(plain)
    assert "eval/which_word" not in told.evaluations[0].metrics
    assert 0 <= told.evaluations[-1].metrics["eval/which_word"] <= 1
    assert told.losses == untold.losses


def test_a_task_that_bounds_the_choice_is_measured_at_each_evaluation(quick_config):
    config = asking(quick_config(), "tasks")
    assert not config.measures_tasks_at_each
    assert asking(quick_config(), "tasks", lm_eval_at="each").measures_tasks_at_each
    for objective in (
        Objective(metric="eval/which_word", mode="max"),
        Objective(constraints={"eval/which_word": ">= 0.5"}),
    ):
        assert config.model_copy(update={"objective": objective}).measures_tasks_at_each


def test_a_task_that_nobody_knows_is_told(tasks, quick_config, monkeypatch, tmp_path):
    import lm_eval.tasks

    known = lm_eval.tasks.TaskManager(include_path=str(tasks), include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **_: known)  # thousands of files otherwise
    config = asking(quick_config(), tasks)
    other = config.evaluation.model_copy(update={"metrics": ("lm_eval:nothing",)})
    with pytest.raises(UserError, match="no such task"):
        Harness(config.model_copy(update={"evaluation": other}))
    with pytest.raises(UserError, match="no such folder"):
        Harness(asking(quick_config(), tmp_path / "none"))


def test_without_the_package_it_is_said_how_to_get_it(quick_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(MissingDependencyError, match=r"sweeper\[lm-eval\]"):
        Harness(asking(quick_config(), "tasks"))


def test_the_number_of_a_task_is_its_first_metric():
    results = {"a": {"alias": "a", "acc,none": 0.25, "acc_stderr,none": 0.1, "acc_norm,none": 0.5}}
    assert first_number("a", results) == 0.25
    with pytest.raises(TrialFailedError, match="no number"):
        first_number("b", results)
