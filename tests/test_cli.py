"""The commands: quick where nothing trains, and one message with status 2 for what the user can mend."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from sweeper.cli import main
from sweeper.cli.app import best
from sweeper.recommend import EXPORT_FORMATS

QUICKSTART = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Calls the console script in an empty folder; returns its status, output and error output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sweeper", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def fastest_s(*arguments: str) -> float:
    """Processor time, the best of three: what is measured is the program, not the machine's other work.

    Compiled modules are kept, as a user's Python does: the first of the three compiles them.
    """
    times, user = [], {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "sweeper", *arguments], check=True, capture_output=True, env=user
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_best_offers_each_format_that_can_be_exported():
    format_ = get_type_hints(best)["format"]
    assert get_args(format_) == EXPORT_FORMATS


def test_help_answers_in_half_a_second():
    assert fastest_s("--help") < 0.5


def test_validate_answers_within_a_second():
    assert fastest_s("validate", str(QUICKSTART)) < 1.0


def test_validate_imports_none_of_the_heavy_libraries():
    script = (
        "import sys; sys.argv = ['sweeper', 'validate', sys.argv[1]]\n"
        "from sweeper.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'deepspeed', 'ray', 'mlflow', 'transformers', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script, str(QUICKSTART)], check=True, capture_output=True)


def test_validate_prints_the_resolved_plan(call):
    status, out, _ = call("validate", QUICKSTART)
    assert status == 0
    for part in ("lr", "scheduler", "global batch", "optimizer steps", "held out"):
        assert part in out


def test_validate_says_tokens_before_anything_was_tokenized_and_what_is_not_known(call):
    status, out, _ = call("validate", QUICKSTART, "--set", "resources.price_per_gpu_hour=2")
    assert status == 0
    assert "about 44,200 to 135,000 per trial" in out
    assert "not measured yet; `sweeper autotune" in out


def test_validate_goes_on_without_a_tokenizer_at_hand(call):
    status, out, _ = call("validate", QUICKSTART, "--set", "model_path=org/model")
    assert status == 0
    assert "unknown before the rows are tokenized; 776,000 per trial at most" in out


def test_schema_prints_json(call):
    status, out, _ = call("schema")
    assert status == 0
    assert json.loads(out)["type"] == "object"


def space(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return file


HEAD = "name: a\nmodel_path: builtin:quickstart\ndata_path: builtin:quickstart\n"

BAD = {
    "no such file": (None, ["missing.yaml"]),
    "not YAML": ("name: [", ["space.yaml"]),
    "unknown key": (HEAD + "training: {learning_rte: 1}\n", ["learning_rte", "4"]),
    "nearest key": (HEAD + "trainin: {lr: auto}\n", ["training"]),
    "wrong type": (HEAD + "training: {lr: fast}\n", ["fast"]),
    "empty range": (HEAD + "training: {lr: []}\n", ["lr"]),
    "lo >= hi": (HEAD + "training: {lr: {uniform: [2, 1]}}\n", ["uniform"]),
    "log range with 0": (HEAD + "training: {lr: {log_uniform: [0, 1]}}\n", ["training.lr", "log range"]),
    "open where none is allowed": (HEAD.replace("name: a", "name: [a, b]"), ["name"]),
    "nothing open": (HEAD + "training: {lr: 1e-5}\n", ["nothing is open"]),
    "name with separators": (HEAD.replace("name: a", "name: ../a"), ["name"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_space_file_gets_status_2_and_one_message(call, tmp_path, case):
    text, parts = BAD[case]
    file = tmp_path / "missing.yaml" if text is None else space(tmp_path, text)
    status, out, err = call("run", file)
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    assert not (tmp_path / "sweeps").exists()


def test_all_problems_of_a_file_are_told_at_once(call, tmp_path):
    status, _, err = call("run", space(tmp_path, HEAD + "training: {lr: fast, epochs: -1}\nserch: {}\n"))
    assert status == 2
    assert all(part in err for part in ("fast", "-1", "serch", "search"))


DATA = {
    "missing": (None, "rows.jsonl"),
    "empty": ("", "rows.jsonl"),
    "of an unknown format": ('{"x": 1}\n', "x"),
    "with a broken line": ('{"prompt": "a", "completion": "b"}\n{"prompt": \n', "rows.jsonl:2"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_used_gets_status_2_and_nothing_is_written(call, tmp_path, case):
    text, part = DATA[case]
    if text is not None:
        (tmp_path / "rows.jsonl").write_text(text)
    file = space(tmp_path, HEAD.replace("data_path: builtin:quickstart", "data_path: ./rows.jsonl"))
    file.write_text(file.read_text() + "training: {lr: auto}\n")
    status, _, err = call("run", file)
    assert status == 2
    assert part in err and "Traceback" not in err
    assert not (tmp_path / "sweeps").exists()


def test_a_model_folder_without_a_tokenizer_is_named(call, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    file = space(tmp_path, HEAD.replace("model_path: builtin:quickstart", "model_path: ./model"))
    file.write_text(file.read_text() + "training: {lr: auto}\n")
    status, _, err = call("run", file)
    assert status == 2
    assert "tokenizer" in err


def test_something_open_is_refused_by_train(call):
    status, _, err = call("train", QUICKSTART)
    assert status == 2
    assert "lr" in err and "Traceback" not in err


@pytest.mark.parametrize("command", ["status", "best", "resume", "ui"])
def test_a_folder_without_a_sweep_gets_status_2(call, tmp_path, command):
    status, _, err = call(command, tmp_path / "nowhere")
    assert status == 2
    assert "nowhere" in err and "Traceback" not in err


def test_a_number_as_people_write_it_is_a_number(call, tmp_path):
    status, out, _ = call("validate", space(tmp_path, HEAD + "training: {lr: [1e-5, 1e-4], epochs: 1}\n"))
    assert status == 0
    assert "1e-05" in out


def test_an_address_for_files_is_tried_and_what_does_not_go_with_it_is_named(call, tmp_path):
    status, out, _ = call("validate", QUICKSTART, "--set", f"resources.files=file://{tmp_path}/store")
    assert status == 0 and out
    refused = call("validate", QUICKSTART, "--set", "resources.files=file:///proc/nowhere")
    assert refused[0] == 2 and "resources.files: file:///proc/nowhere: cannot be written" in refused[2]
    both = (f"resources.files=file://{tmp_path}/store", "evaluation.retention=auto")
    status, _, told = call("validate", QUICKSTART, *(word for one in both for word in ("--set", one)))
    assert status == 2 and "what is retained is found by the first trial" in told
