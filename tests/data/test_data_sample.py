"""A sample of the rows tells their lengths before anything is tokenized, without transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sweeper.data import gather_facts, load_sample, load_tokenizer, prepare
from sweeper.data.problems import Problems
from sweeper.data.read.examples import load_examples
from sweeper.data.render.light_tokenizer import light_tokenizer
from sweeper.data.render.tokens import tokenize


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"What is {n} + 1?", "completion": "The answer is " + "one more, " * (n % 7)}
        for n in range(count)
    ]


@pytest.mark.parametrize("template", ["auto", "plain", "chatml", "llama3", "zephyr", "alpaca"])
def test_the_light_tokenizer_gives_the_tokens_and_the_mask_of_the_real_one(
    template, chat_model, make_config, write_jsonl
):
    config = make_config(chat_model, write_jsonl(rows(30)), chat_template=template)
    examples = load_examples(config).train
    real = load_tokenizer(str(chat_model), chat_template=template)
    light = light_tokenizer(str(chat_model), template)
    pairs = [list(tokenize(examples, one, 512, Problems())) for one in (real, light)]
    assert len(pairs[0]) == len(examples)
    for (_, expected), (_, found) in zip(*pairs, strict=True):
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.mask.tolist() == expected.mask.tolist()


def test_it_renders_tools_and_a_template_with_tags_of_transformers(model_with_template):
    text = (
        "{% for message in messages %}{{ message['role'] }}:"
        "{% generation %}{{ message['content'] }}{% endgeneration %}{% endfor %}"
        "{% if tools %}{{ tools | tojson(indent=1) }}{% endif %}"
    )
    folder = model_with_template(text)
    turns = [[{"role": "user", "content": "<a> & ü"}]]
    tools = [{"type": "function", "function": {"name": "é<", "parameters": {}}}]
    real, light = load_tokenizer(str(folder)), light_tokenizer(str(folder), "auto")
    expected = real.apply_chat_template(turns, tools=tools, tokenize=False)
    assert light.apply_chat_template(turns, tools=tools) == expected


def test_a_sample_of_all_rows_is_exact(chat_model, make_config, write_jsonl, tmp_path):
    config = make_config(chat_model, write_jsonl(rows(60)), max_seq_len=48)
    sample = load_sample(config).within(48)
    data = prepare(config, tmp_path / "cache")
    assert sample.lengths.tolist() == data.train.lengths.tolist()
    assert sample.completion_tokens.tolist() == data.train.completion_tokens.tolist()
    assert (sample.epoch_tokens, sample.eval_tokens) == (len(data.train.ids), len(data.eval.ids))


def test_overlong_rows_that_are_left_out_are_not_counted(chat_model, make_config, write_jsonl):
    config = make_config(chat_model, write_jsonl(rows(60)))
    whole = load_sample(config).within(512)
    limit = int(np.median(whole.lengths))
    sample = load_sample(config).within(limit, "drop")
    assert sample.train_rows == (whole.lengths <= limit).sum() < whole.train_rows
    assert sample.lengths.max() <= limit


def test_weights_repeat_rows_in_the_sample(chat_model, make_config, write_jsonl):
    source = {"path": str(write_jsonl(rows(40))), "weight": 3}
    config = make_config(chat_model, "unused")
    config = config.model_validate(config.model_dump() | {"data_path": source})
    sample = load_sample(config).within(512)
    assert sample.train_rows == len(sample.lengths) == 3 * 38


def test_few_rows_tell_about_many_and_always_the_same(chat_model, make_config, write_jsonl, tmp_path):
    config = make_config(chat_model, write_jsonl(rows(3000)))
    kept = []
    gather_facts(config, lambda _, sample: kept.append(sample))
    sample, again = kept[0].within(512), load_sample(config).within(512)
    assert len(sample.lengths) == 256
    assert sample.lengths.tolist() == again.lengths.tolist()
    whole = prepare(config, tmp_path / "cache")
    assert sample.epoch_tokens == pytest.approx(len(whole.train.ids), rel=0.03)


def test_a_tokenizer_that_is_not_at_hand_makes_the_lengths_unknown(
    make_config, write_jsonl, tmp_path, chat_model
):
    data = write_jsonl(rows(10))
    assert load_sample(make_config("org/model", data)) is None
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text(json.dumps({"model": 3}))
    assert load_sample(make_config(broken, data)) is None
    assert load_sample(make_config(chat_model, tmp_path / "missing.jsonl")) is None
