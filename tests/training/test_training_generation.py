"""Answers that the model generates: what they are, what they score, and that training never notices."""

from __future__ import annotations

import importlib
import json
import textwrap

import numpy as np
import pytest

from sweeper.errors import TrialFailedError, UserError
from sweeper.space import Evaluation
from sweeper.training.generate.generation import batches_of, last_turn
from sweeper.training.generate.scores import exact_match


@pytest.fixture
def answered(quick_config, job_of):
    """Makes the job of a short run that evaluates generated answers."""

    def make(*metrics, rows=12, max_new_tokens=24, **changes):
        evaluation = Evaluation(metrics=metrics, rows=rows, max_new_tokens=max_new_tokens)
        return job_of(quick_config(**changes).model_copy(update={"evaluation": evaluation}))

    return make


def write_module(folder, name, text):
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


def test_the_last_turn_is_asked_for_and_what_precedes_it_is_the_prompt():
    ids = np.arange(10, dtype=np.int32)
    mask = np.zeros(10, dtype=bool)
    mask[[3, 4, 7, 8]] = True
    prompt, reference = last_turn(ids, mask)
    assert prompt.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert reference.tolist() == [7, 8]


def test_exact_match_is_the_share_of_equal_texts():
    assert exact_match(["", "", ""], ["a", "b", "c"], ["a", "b", "C"]) == pytest.approx(2 / 3)


def test_a_model_that_has_learned_its_rows_answers_them_all(rank, run_in, job_of, simple_rows):
    job = job_of(simple_rows(Evaluation(metrics=("exact_match",))), evaluate_untrained=True)
    evaluations = run_in(rank, job).evaluations
    rank.stop()
    assert evaluations[0].metrics["eval/exact_match"] == 0
    assert evaluations[-1].metrics["eval/exact_match"] == 1
    assert evaluations[-1].metrics["perf/generation_s"] > 0


def test_ranks_share_the_prompts_in_batches_that_do_not_depend_on_their_number():
    lengths = [7, 3, 9, 1] * 10
    alone = batches_of(lengths, data_rank=0, dp=1, in_step=True)
    ranks = [batches_of(lengths, data_rank=rank, dp=2, in_step=True) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [2, 2]
    counted = [batch.rows for batches in ranks for batch in batches if batch.counts]
    assert sorted(counted) == sorted(batch.rows for batch in alone)
    assert sorted(row for rows in counted for row in rows) == list(range(40))
    assert [batch.longest for batch in alone] == [3, 9, 9]
    assert [[batch.longest for batch in batches] for batches in ranks] == [[9, 9], [9, 9]]


@pytest.mark.parametrize("changes", [{}, {"zero_stage": 3}], ids=["replicas", "ZeRO-3"])
def test_generation_leaves_every_loss_as_it_was_to_the_last_bit(
    rank, run, run_in, answered, quick_config, own_modules, changes
):
    """With dropout, which draws from the generator that a metric here draws from as well."""
    write_module(
        own_modules,
        "lots",
        """
        import random
        import numpy, torch

        def drawn(prompts, generations, references):
            return random.random() + numpy.random.rand() + torch.rand(()).item()
        """,
    )
    adapters = {"rank": 4, "alpha": 16, "dropout": 0.2, "targets": ("q_proj",)}
    changes = {"lora": adapters, "gradient_checkpointing": True, "epochs": 0.5, **changes}
    job = answered("exact_match", "lots:drawn", rows=8, max_new_tokens=3, **changes)
    with_answers = run_in(rank, job)
    rank.stop()
    assert with_answers.losses == run(quick_config(**changes)).losses
    assert all("eval/drawn" in progress.metrics for progress in with_answers.evaluations)


def test_a_function_of_the_users_own_gets_three_lists_of_texts(rank, run_in, answered, own_modules):
    write_module(
        own_modules,
        "seen",
        """
        import json, pathlib

        def kept(prompts, generations, references):
            told = json.dumps([prompts, generations, references])
            pathlib.Path(__file__).with_suffix(".json").write_text(told)
            prompts.clear()
            return len(references)

        def matches(prompts, generations, references):
            assert len(prompts) == len(generations)
            return sum(g == r for g, r in zip(generations, references)) / len(references)
        """,
    )
    final = run_in(rank, answered("seen:kept", "seen:matches", "exact_match")).evaluations[-1].metrics
    rank.stop()
    assert final["eval/kept"] == 12
    assert final["eval/matches"] == final["eval/exact_match"]
    prompts, generations, references = json.loads((own_modules / "seen.json").read_text())
    assert len(prompts) == len(generations) == len(references) == 12
    assert all(isinstance(text, str) for text in prompts + generations + references)
    assert prompts[0].startswith("<|user|>") and prompts[0].endswith("<|assistant|>")
    assert not any("<|" in text for text in generations + references)


def test_answers_in_a_padded_batch_are_those_of_each_prompt_alone(rank, job_of, answered, own_modules):
    """By transformers' own attention and greedy generation, of the packaged model as it is."""
    import dataclasses

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sweeper.data import model_folder

    write_module(
        own_modules, "told", "answers = []\ndef kept(p, g, r): return len(answers.append([p, g]) or r)\n"
    )
    job = answered("told:kept", rows=6, max_new_tokens=16)
    rank.prepare(dataclasses.replace(job, evaluate_untrained=True))
    rank.advance()
    rank.stop()
    ((prompts, generations),) = importlib.import_module("told").answers
    folder = model_folder("builtin:quickstart")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for prompt, generation in zip(prompts, generations, strict=True):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        (whole,) = model.generate(ids, max_new_tokens=16, do_sample=False)
        assert tokenizer.decode(whole[ids.shape[1] :], skip_special_tokens=True).strip() == generation


def test_no_more_rows_are_answered_than_are_held_out(rank, run_in, answered, own_modules):
    write_module(own_modules, "count", "def rows(p, g, r): return len(r)\n")
    final = run_in(rank, answered("count:rows", rows=1000, max_new_tokens=1)).evaluations[-1].metrics
    rank.stop()
    assert final["eval/rows"] == 16


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (
            "import json; json.loads('')",
            UserError,
            r"JSONDecodeError: Expecting .* \(own\w+.py:2, in score\)",
        ),
        ("return {}['x']", UserError, r"own\w*:score: raised KeyError: 'x' \(own\w+.py:2, in score\)"),
        ("return None", UserError, r"own\w*:score: returned a NoneType"),
        ("return float('nan')", TrialFailedError, r"own\w*:score returned nan, which is not finite"),
        ("raise SystemExit(3)", UserError, "raised SystemExit: 3"),
    ],
)
def test_a_function_without_a_number_is_named_with_what_it_did(
    rank, answered, own_modules, body, error, said
):
    name = f"own{abs(hash(body))}"
    write_module(own_modules, name, f"def score(p, g, r):\n    {body}\n")
    rank.prepare(answered(f"{name}:score", rows=2, max_new_tokens=1))
    with pytest.raises(error, match=said):
        rank.advance()
    rank.stop()


def test_greedy_generation_does_not_warn_of_the_models_own_sampling_settings(
    rank, run_in, answered, recwarn, caplog
):
    import transformers

    job = answered("exact_match", rows=2, max_new_tokens=2)
    rank.prepare(job)
    model = rank._trainer._model
    model.generation_config.do_sample = True
    model.generation_config.temperature, model.generation_config.top_p = 0.6, 0.9
    transformers.logging.enable_propagation()
    try:
        rank.advance()
    finally:
        transformers.logging.disable_propagation()
    assert not [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
    assert model.generation_config.temperature == 0.6
    assert model.config._attn_implementation == "sweeper_row_wise"
    assert model.training
    rank.stop()
