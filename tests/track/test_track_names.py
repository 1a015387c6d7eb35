"""A run's name tells the searched values in few characters, and no two options read alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.space import Facts, Space, load_space
from sweeper.track import run_name

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)


@pytest.fixture
def space_of(tmp_path: Path):
    def make(training: str) -> Space:
        path = tmp_path / "space.yaml"
        path.write_text(f"name: n\nmodel_path: m\ndata_path: d.jsonl\ntraining: {training}")
        return load_space(path, gather=lambda _: FACTS)

    return make


QUICKSTART = """
  lr: {log_uniform: [1.0e-5, 1.0e-2]}
  scheduler: [constant, linear, cosine]
  epochs: [1, 2, 3]
  gradient_accumulation_steps: [1, 2, 4]
"""


def test_the_name_of_a_trial_of_the_quickstart(space_of) -> None:
    values = {"lr": 0.0023917, "scheduler": "linear", "epochs": 3.0, "gradient_accumulation_steps": 1}
    assert run_name(space_of(QUICKSTART), 2, values) == "2 · lr 2.4e-3 · linear · 3 ep · accum 1"


@pytest.mark.parametrize(
    ("training", "values", "said"),
    [
        ("{lr: [1.0e-4, 2.5e-5, 1.00e-6]}", {"lr": 2.5e-5}, "lr 2.5e-5"),
        ("{lr: [1.0e-4, 1.04e-4, 1.0437e-4]}", {"lr": 1.0437e-4}, "lr 1.044e-4"),
        ("{lr: {log_uniform: [1.0e-6, 1.0]}}", {"lr": 0.0312345}, "lr 0.031"),
        ("{epochs: {uniform: [0.5, 3.0]}}", {"epochs": 1.23456}, "1.23 ep"),
        ("{adam_beta2: [0.95, 0.999, 0.9999]}", {"adam_beta2": 0.999}, "adam_beta2 0.999"),
        ("{lora: {alpha: {uniform: [8, 4096]}}}", {"lora.alpha": 1234.567}, "alpha 1235"),
        ("{lora: {rank: {choice: [8, 32]}}}", {"lora.rank": 32}, "rank 32"),
        ("{weight_decay: [0.0, 0.1], decay_ratio: [0.1, 0.2]}", {"weight_decay": 0.0, "decay_ratio": 0.2},
         "decay 0 · decay_ratio 0.2"),
        ("{lora: {targets: {choice: [all-linear, 'q_proj,k_proj,v_proj,o_proj,up_proj']}}}",
         {"lora.targets": "q_proj,k_proj,v_proj,o_proj,up_proj"}, "targets q_proj,k_proj,v_proj,o_…"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_tell_them_apart_and_words_are_cut(
    space_of, training, values, said
) -> None:
    assert run_name(space_of(training), 10, values) == f"10 · {said}"


def test_a_long_name_counts_what_found_no_room(space_of) -> None:
    names = ("weight_decay", "adam_beta1", "adam_beta2", "warmup_ratio", "final_lr_ratio", "max_grad_norm")
    space = space_of("{" + ", ".join(f"{name}: {{uniform: [0.1, 0.9]}}" for name in names) + "}")
    name = run_name(space, 123, dict.fromkeys(names, 0.123456))
    assert name == "123 · decay 0.123 · adam_beta1 0.123 · adam_beta2 0.123 · warmup 0.123 · +2"
    assert len(name) <= 80
