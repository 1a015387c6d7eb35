"""All of the real data beside the project goes through ``prepare``; its traps are looked at one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from data_helpers import WITH_DEFAULT, rows_of

from sweeper.data import TokenizedData, load_tokenizer, prepare
from sweeper.data.read.examples import load_examples

pytestmark = pytest.mark.slow

# file -> rows as the README beside the files counts them, weight in the mix
FILES = {
    "general/alpaca_en_demo.json": (999, 1.0),
    "general/self_instruct_seed_tasks.jsonl": (175, 2.0),
    "tools/glaive_toolcall_en_demo.json": (300, 0.5),
    "math/gsm8k_train.jsonl": (7473, 0.1),
    "math/gsm8k_test.jsonl": (1319, 1.0),
    "code/mbpp_prompt_completion.jsonl": (974, 1.5),
    "code/sql_eval_prompt_completion.jsonl": (104, 3.0),
    "medical/pubmedqa_labeled_alpaca.jsonl": (1000, 0.25),
    "finance/banking77_train_alpaca.jsonl": (10003, 0.05),
    "dialogue/taskmaster4_coffee_messages.jsonl": (1210, 0.5),
    "dialogue/fastchat_dummy_conversation.json": (500, 1.0),
}
TOOLS = "tools/glaive_toolcall_en_demo.json"
QUICKSTART = "builtin:quickstart"


def accounted(data: TokenizedData) -> int:
    """Rows by what became of them, each once."""
    names = ["rows", "overlong_dropped", "dropped"]
    split = sum(data.counts[f"{split}_{name}"] for split in ("train", "eval") for name in names)
    reasons = ["rows_bad", "rows_without_answer", "rows_leaked", "rows_left_out_by_weight"]
    return split + sum(data.counts[name] for name in reasons) - data.counts["rows_repeated"]


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_prepared_whole_with_the_packaged_model(file, real_data, make_config, tmp_path):
    config = make_config(QUICKSTART, real_data / file, max_seq_len=32768)
    data = prepare(config, tmp_path / "cache")
    assert data.counts["rows_read"] == accounted(data) == FILES[file][0]
    assert (data.counts["rows_bad"], data.counts["rows_without_answer"]) == (0, 0)
    assert (data.counts["train_truncated"], data.counts["eval_truncated"]) == (0, 0)


def test_all_files_mix_with_weights_in_one_configuration(real_data, make_config, tmp_path):
    paths = [{"path": str(real_data / file), "weight": weight} for file, (_, weight) in FILES.items()]
    config = make_config(QUICKSTART, "x", data_path=paths, max_seq_len=1024)
    data = prepare(config, tmp_path / "cache")
    assert data.counts["rows_read"] == sum(rows for rows, _ in FILES.values())
    # Rows that weights repeat and that have no completion within the limit make the sum inexact.
    assert abs(accounted(data) - data.counts["rows_read"]) <= 2 * data.counts["train_dropped"]
    expected = sum(rows * weight * 0.95 for rows, weight in FILES.values())
    assert data.train.rows == pytest.approx(expected, rel=0.03)
    assert data.counts["rows_left_out_by_weight"] > 0
    assert data.counts["rows_repeated"] > 0


@pytest.fixture(params=["packaged", "chatml"])
def tool_model(request, model_with_template) -> str:
    """A template that refuses the role tool, and one that knows any role and no tools."""
    return QUICKSTART if request.param == "packaged" else str(model_with_template(WITH_DEFAULT))


def test_the_tool_calls_of_every_row_are_learned_and_the_observations_are_not(
    tool_model, real_data, make_config, tmp_path
):
    config = make_config(tool_model, real_data / TOOLS, max_seq_len=32768)
    data, examples = prepare(config, tmp_path / "cache"), load_examples(config)
    tokenizer = load_tokenizer(tool_model)
    assert accounted(data) == 300
    with_tools = [one for one in [*examples.train, *examples.eval] if one.tools]
    assert data.counts["rows_with_tools_as_text"] == len(with_tools) > 180
    for index, example in enumerate(examples.train):
        ids, mask = data.train.row(index)
        learned = tokenizer.decode(ids[mask])
        assert learned == "".join(_said(message) + tokenizer.eos_token for message in _answers(example))
        given = tokenizer.decode(ids[~mask])
        assert all(tool["function"]["name"] in given for tool in example.tools)


def _answers(example: Any) -> list[Any]:
    return [message for message in example.messages if message["role"] == "assistant"]


def _said(message: Any) -> str:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return message["content"] + "\n".join(json.dumps(call, ensure_ascii=False) for call in calls)


def test_a_broken_call_inside_of_a_row_is_a_bad_row(real_data, make_config, tmp_path):
    rows = json.loads((real_data / TOOLS).read_text(encoding="utf-8"))[:40]
    index = next(i for i, row in enumerate(rows) if row["conversations"][1]["from"] == "function_call")
    rows[index]["conversations"][1]["value"] = rows[index]["conversations"][1]["value"][:-2]
    file = tmp_path / "tools.json"
    file.write_text(json.dumps(rows))
    data = prepare(make_config(QUICKSTART, file, max_bad_rows=1, max_seq_len=8192), tmp_path / "cache")
    assert data.counts["rows_bad"] == 1
    assert f"{file}:item {index + 1}: " in data.bad_rows_file.read_text()


def test_a_paragraph_separator_inside_of_a_string_ends_no_row(real_data):
    file = real_data / "medical/pubmedqa_labeled_alpaca.jsonl"
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1001
    rows = rows_of(str(file))
    assert len(rows) == 1000
    assert sum("\u2029" in json.dumps(row.fields, ensure_ascii=False) for row in rows) == 1


def test_every_instance_of_the_seed_tasks_is_an_example(real_data, make_config):
    config = make_config(QUICKSTART, real_data / "general/self_instruct_seed_tasks.jsonl")
    examples = load_examples(config)
    instances = sum(
        len(row.fields["instances"])
        for row in rows_of(str(real_data / "general/self_instruct_seed_tasks.jsonl"))
    )
    assert len(examples.train) + len(examples.eval) == instances == 175
    assert all(example.where.endswith(" instance 1") for example in examples.train)
