"""What other trainers are told is what was trained, and what they cannot be told is named."""

from __future__ import annotations

import json
import random
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import UserError
from sweeper.recommend.exports import CONSUMERS, SCHEDULE, Run, exported, keys_of, on_gpus, values_of
from sweeper.recommend.exports.pages import exports_page
from sweeper.recommend.exports.schedules import rising_steps
from sweeper.recommend.imports import IMPORT_FORMATS, consumer_of, imported, read_tree
from sweeper.space import Config
from sweeper.training.parallel.optimizer import schedule_of

ROOT = Path(__file__).parents[2]
SUFFIX = {"json": ".json", "yaml": ".yaml", "command": ".sh"}


def config_of(training: dict[str, Any] | None = None, **more: Any) -> Config:
    tree = {
        "name": "exported",
        "model_path": "models/tiny",
        "data_path": "data.jsonl",
        "eval_data": 0.1,
        "training": {
            "lr": 1e-3,
            "scheduler": "cosine",
            "final_lr_ratio": 0.0,
            "warmup_ratio": 0.03,
            "decay_ratio": 0.2,
            "epochs": 2,
            "per_device_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "global_batch_size": 8,
            "max_seq_len": 128,
            **(training or {}),
        },
        "deepspeed": {"zero_stage": 2, "precision": "bf16"},
        "resources": {"max_concurrent": 1, "cpus_per_rank": 2, "gpus_per_rank": 1},
    }
    return Config.model_validate(tree | more)


def run_of(training: dict[str, Any] | None = None, *, steps: int = 60, **more: Any) -> Run:
    return Run(config=config_of(training, **more), steps=steps, fields="prompt_completion")


def notes_of(run: Run, name: str) -> dict[str, str]:
    return {note.path: note.said for note in keys_of(run, CONSUMERS[name])[1]}


TRAININGS = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-6, 1e-2),
        "scheduler": st.sampled_from(["constant", "linear", "cosine"]),
        "final_lr_ratio": st.sampled_from([0.0, 0.05, 0.1]),
        "warmup_ratio": st.sampled_from([0.0, 0.03, 0.1]),
        "epochs": st.sampled_from([1, 2, 3]),
        "per_device_batch_size": st.integers(1, 8),
        "gradient_accumulation_steps": st.integers(1, 4),
        "weight_decay": st.sampled_from([0.0, 0.01, 0.1]),
        "adam_beta1": st.sampled_from([0.9, 0.95]),
        "adam_beta2": st.sampled_from([0.95, 0.999]),
        "adam_epsilon": st.sampled_from([1e-8, 1e-6]),
        "max_grad_norm": st.sampled_from([0.0, 0.5, 1.0]),
        "max_seq_len": st.integers(8, 4096),
        "packing": st.booleans(),
        "lora": st.one_of(
            st.just(False),
            st.fixed_dictionaries(
                {
                    "rank": st.integers(1, 64),
                    "alpha": st.integers(1, 64),
                    "dropout": st.sampled_from([0.0, 0.1]),
                    "targets": st.sampled_from(["all-linear", ("q_proj", "v_proj")]),
                }
            ),
        ),
        "seed": st.integers(0, 99),
    }
)
MEMORY = st.sampled_from([(0, "none"), (2, "none"), (2, "optimizer"), (3, "all")])
ONE_FOR_ONE = {
    "trl": "warmup_ratio final_lr_ratio",
    "llamafactory": "warmup_ratio final_lr_ratio",
    "axolotl": "final_lr_ratio",
    "openrlhf": "warmup_ratio",
    "deepspeed": "",
}
"""What of a schedule is told as it is, beside its name."""


def expressed(run: Run, name: str) -> set[str]:
    """Our settings that the format has a word for, apart from what a note names."""
    consumer, training = CONSUMERS[name], run.config.training
    paths = {key.ours for key in consumer.keys} | {"training.adam_beta1", "training.adam_beta2"}
    if name != "deepspeed":
        paths |= {f"training.{one}" for one in ONE_FOR_ONE[name].split()}
        paths |= {f"training.lora{one}" for one in ("", ".alpha", ".targets")}
        paths |= {"data_path", "training.scheduler"}
    if training.scheduler == "constant":
        paths.discard("training.final_lr_ratio")
    if name in ("trl", "llamafactory", "axolotl", "deepspeed"):
        paths |= {"deepspeed.zero_stage", "deepspeed.offload", "deepspeed.precision"}
    if name in ("trl", "llamafactory", "axolotl"):
        paths |= {"eval_data"}
    return paths - set(notes_of(run, name)) - ({"eval_data"} if name == "openrlhf" else set())


@pytest.mark.parametrize("name", IMPORT_FORMATS)
def test_what_both_sides_can_say_comes_back_as_it_went_out(name, tmp_path):
    file = tmp_path / f"file{SUFFIX[CONSUMERS[name].form]}"

    @settings(max_examples=25)
    @given(TRAININGS, MEMORY, st.sampled_from(["bf16", "fp16"]))
    def holds(training, memory, precision):
        rows = training["per_device_batch_size"] * training["gradient_accumulation_steps"]
        section = {"zero_stage": memory[0], "offload": memory[1], "precision": precision}
        run = run_of({**training, "global_batch_size": rows}, deepspeed=section)
        file.write_text(exported(run, CONSUMERS[name]).text)
        tree = read_tree(file)
        assert consumer_of(tree, None, file) is CONSUMERS[name]
        back, ours = imported(tree, CONSUMERS[name], name="exported", where="file"), values_of(run.config)
        paths = expressed(run, name) & ours.keys()
        off = {"training.packing", "deepspeed.gradient_checkpointing", "trust_remote_code"}
        if name == "openrlhf":  # a switch that is off is not written
            paths -= {path for path in off if ours[path] is False}
        assert {path: back.values.get(path) for path in paths} == {path: ours[path] for path in paths}
        assert not [note for note in back.notes if "no meaning here" in note]

    holds()


def trainer_lrs(keys: dict[str, Any], run: Run) -> list[float]:
    """By transformers' own scheduler, as its Trainer calls it."""
    import torch
    from transformers import TrainingArguments, get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=run.config.training.lr)
    warmup = TrainingArguments.get_warmup_steps(
        type("Said", (), {"warmup_steps": keys["warmup_steps"]})(), run.steps
    )
    scheduler = get_scheduler(
        keys["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=run.steps,
        scheduler_specific_kwargs=keys.get("lr_scheduler_kwargs"),
    )
    lrs = []
    for _ in range(run.steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def our_lrs(run: Run) -> list[float]:
    """By the schedule that the optimizer of a trial gets."""
    training = run.config.training
    multiplier = schedule_of(training, run.steps)
    return [training.lr * multiplier(step) for step in range(run.steps)]


def test_transformers_draws_our_learning_rates_after_warm_up_or_a_note_names_the_scheduler():
    pytest.importorskip("transformers")
    draw, named = random.Random(0), 0
    for _ in range(200):
        scheduler = draw.choice(["constant", "linear", "cosine", "exponential", "wsd"])
        ratio = draw.choice([0.0, 0.1, round(draw.random(), 3), 1.0])
        run = run_of(
            {
                "lr": 10 ** draw.uniform(-6, -2),
                "scheduler": scheduler,
                "final_lr_ratio": max(ratio, 0.01) if scheduler == "exponential" else ratio,
                "warmup_ratio": draw.choice([0.0, 0.03, round(draw.random() / 2, 3)]),
                "decay_ratio": round(draw.uniform(0.05, 0.5), 3),
                "warmup_steps": draw.choice([None, None, draw.randrange(20)]),
            },
            steps=draw.randrange(1, 120),
        )
        keys, notes = keys_of(run, CONSUMERS["trl"])
        if any(note.path in SCHEDULE for note in notes):
            assert scheduler == "exponential"
            named += 1
            continue
        begin = rising_steps(run)
        assert trainer_lrs(keys, run)[begin:] == pytest.approx(our_lrs(run)[begin:], rel=1e-9, abs=1e-15)
    assert 0 < named < 60


def test_the_nearest_to_an_exponential_fall_agrees_with_it_at_both_ends_and_in_the_middle():
    pytest.importorskip("transformers")
    run = run_of({"scheduler": "exponential", "final_lr_ratio": 0.05, "warmup_ratio": 0.0}, steps=100)
    theirs, ours = trainer_lrs(keys_of(run, CONSUMERS["trl"])[0], run), our_lrs(run)
    assert [theirs[0], theirs[50]] == pytest.approx([ours[0], ours[50]])
    assert theirs[-1] == pytest.approx(ours[-1], rel=0.05)
    assert max(abs(a - b) for a, b in zip(theirs, ours, strict=True)) < 0.06 * run.config.training.lr
    for name in CONSUMERS:
        assert "exponential" in notes_of(run, name)["training.scheduler"]
        assert "exponential" in exported(run, CONSUMERS[name]).text or name == "deepspeed"


def test_the_scripts_curve_is_ours_warm_up_included():
    for scheduler in ("constant", "linear", "cosine", "exponential", "wsd"):
        training = {"scheduler": scheduler, "final_lr_ratio": 0.1, "warmup_ratio": 0.1}
        run = run_of(training, steps=50)
        script = exported(run, CONSUMERS["trl"]).script
        begin, end = script.index("SCHEDULER,"), script.index("class Trainer")
        names: dict[str, Any] = {}
        exec("import math\n" + script[begin:end], names)
        drawn = [run.config.training.lr * names["multiplier"](step, 50) for step in range(50)]
        assert drawn == pytest.approx(our_lrs(run))


def test_deepspeed_takes_its_file_and_draws_the_same_rates_where_no_note_says_otherwise():
    deepspeed = pytest.importorskip("deepspeed")
    import torch
    from deepspeed.runtime import lr_schedules

    for scheduler in ("constant", "linear", "cosine", "exponential", "wsd"):
        ratio = 0.1 if scheduler == "exponential" else 0.0
        run = run_of({"scheduler": scheduler, "final_lr_ratio": ratio, "warmup_ratio": 0.1})
        keys = json.loads(exported(run, CONSUMERS["deepspeed"]).text)
        one_rank = {key: value for key, value in keys.items() if key != "train_batch_size"}
        assert deepspeed.DeepSpeedConfig(one_rank).gradient_accumulation_steps == 2
        if scheduler not in ("constant", "linear"):
            assert "training.scheduler" in notes_of(run, "deepspeed")
            continue
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=run.config.training.lr)
        section = keys["scheduler"]
        theirs = getattr(lr_schedules, section["type"])(optimizer, **section["params"])
        drawn = []
        for _ in range(run.steps):
            theirs.step()
            drawn.append(optimizer.param_groups[0]["lr"])
        assert drawn[rising_steps(run) :] == pytest.approx(our_lrs(run)[rising_steps(run) :])


def test_more_gpus_share_the_same_global_batch_or_are_refused_by_name():
    config = config_of(
        {"per_device_batch_size": 4, "gradient_accumulation_steps": 6, "global_batch_size": 24}
    )
    for gpus, split in {1: (4, 6), 2: (4, 3), 3: (4, 2), 8: (3, 1), 24: (1, 1)}.items():
        shared = on_gpus(config, gpus, CONSUMERS["trl"])
        training = shared.training
        assert (training.per_device_batch_size, training.gradient_accumulation_steps) == split
        assert training.global_batch_size == 24 == split[0] * split[1] * shared.parallel.dp
    with pytest.raises(UserError, match="24 rows cannot be shared out evenly over 5 ranks"):
        on_gpus(config, 5, CONSUMERS["trl"])


def test_a_command_line_stays_one_whatever_the_paths_hold():
    run = run_of(model_path="it's a; model", data_path="rows (1).jsonl")
    for name in ("openrlhf", "ms-swift"):
        words = shlex.split(exported(run, CONSUMERS[name]).text, comments=True)
        assert {"it's a; model", "rows (1).jsonl"} <= set(words)


def test_what_a_trainer_has_no_word_for_is_named():
    run = run_of(
        {"lora": {"alpha": 16.5}, "overlong": "drop", "epochs": 1.5},
        parallel={"dp": 1, "pp": 2},
        data_path=[{"path": "a.jsonl", "weight": 2.0, "columns": {"ask": "prompt", "say": "completion"}}],
    )
    for name in ("trl", "openrlhf", "llamafactory"):
        named = notes_of(run, name)
        assert {
            "training.lora.alpha",
            "training.overlong",
            "parallel.pp",
            "data_path",
            "eval_data",
        } <= named.keys()
    assert "training.epochs" in notes_of(run, "openrlhf")


def test_the_page_of_the_docs_is_made_from_the_tables_which_are_short():
    assert (ROOT / "docs" / "exports.md").read_text(encoding="utf-8") == exports_page()
    assert all(len(one.keys) + len(one.special) <= 40 for one in CONSUMERS.values())
