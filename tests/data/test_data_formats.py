"""Rows of every format become conversations; what fits none is told with its fields."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.data.formats import conversations
from sweeper.data.problems import Problems
from sweeper.data.read import Row, rows_of

EXAMPLES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "alpaca": (
        {"instruction": "Add.", "input": "1 2", "output": "3", "id": 7},
        [("user", "Add.\n\n1 2"), ("assistant", "3")],
    ),
    "messages": (
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "assistant", "content": "a", "name": "x"},
            ]
        },
        [("system", "s"), ("assistant", "a")],
    ),
    "prompt_completion": ({"prompt": "p ", "completion": " c"}, [("user", "p "), ("assistant", " c")]),
    "question_answer": ({"question": "q", "answer": 42}, [("user", "q"), ("assistant", "42")]),
}


def convert(rows: list[dict[str, Any]], data_format: str = "auto") -> tuple[list[list[tuple[str, str]]], str]:
    problems = Problems()
    numbered = [Row(fields, "a.jsonl", str(number)) for number, fields in enumerate(rows, start=1)]
    examples = conversations(numbered, data_format, problems)
    told = "\n".join(map(str, problems.told()))
    return [[(m["role"], m["content"]) for m in example.messages] for example in examples], told


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("automatic", [True, False])
def test_each_format_is_recognised_and_can_be_named(name, automatic):
    row, expected = EXAMPLES[name]
    assert convert([row, row], "auto" if automatic else name) == ([expected, expected], "")


@pytest.mark.parametrize("empty", ["", None])
def test_alpaca_without_input_is_the_instruction_alone(empty):
    row = {"instruction": "Sing.", "input": empty, "output": "La."}
    assert convert([row])[0] == [[("user", "Sing."), ("assistant", "La.")]]
    assert convert([{"instruction": "Sing.", "output": "La.", "system": "Be brief."}])[0][0][0] == (
        "system",
        "Be brief.",
    )


def test_an_unknown_format_lists_the_fields_found_and_the_formats_known():
    _, told = convert([{"conversations": [], "id": 1}])
    assert "a.jsonl:1" in told
    assert "conversations, id" in told
    for name in EXAMPLES:
        assert name in told


def test_fields_that_fit_two_formats_must_be_decided_by_the_user():
    row = {"instruction": "i", "output": "o", "question": "q", "answer": "a"}
    _, told = convert([row])
    assert "alpaca, question_answer" in told
    assert "data_format" in told
    assert convert([row], "question_answer")[0] == [[("user", "q"), ("assistant", "a")]]


def test_every_source_is_recognised_by_itself():
    problems = Problems()
    rows = [Row(row, name, "1") for name, (row, _) in EXAMPLES.items()]
    assert len(conversations(rows, "auto", problems)) == 4
    assert not len(problems)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"question": "q"}, "answer is missing"),
        ({"question": "q", "answer": None}, "answer is not text"),
        ({"question": ["q"], "answer": "a"}, "question is not text"),
        ({"question": "q", "answer": True}, "answer is not text"),
        ({"question": "q", "answer": "\ud83d"}, "half of a surrogate pair"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row, rule):
    good = EXAMPLES["question_answer"][0]
    converted, told = convert([good, row, good])
    assert len(converted) == 2
    assert told.startswith("a.jsonl:2: ")
    assert rule in told


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": "hello"}, "at least one message"),
        ({"messages": [{"role": "user"}]}, "message 1 is not an object with role and content"),
        ({"messages": [{"role": "user", "content": "x"}, "y"]}, "message 2 is not an object"),
        ({"messages": [{"role": "human", "content": "x"}]}, "message 1 has no known role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "message 1 has no known role"),
        (
            {"messages": [{"role": "assistant", "content": [{"text": "x"}]}]},
            "content of message 1 is not text",
        ),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}]},
            "message 1 has tool calls",
        ),
        ({"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f"}]}, "not supported"),
    ],
)
def test_broken_messages_are_refused_with_the_reason(row, rule):
    assert rule in convert([row])[1]


@pytest.mark.parametrize(
    ("file", "rows", "roles"),
    [
        ("general/alpaca_en_demo.json", 999, {"user", "assistant"}),
        ("medical/pubmedqa_labeled_alpaca.jsonl", 1000, {"user", "assistant"}),
        ("finance/banking77_train_alpaca.jsonl", 10003, {"user", "assistant"}),
        ("math/gsm8k_train.jsonl", 7473, {"user", "assistant"}),
        ("code/mbpp_prompt_completion.jsonl", 974, {"user", "assistant"}),
        ("code/sql_eval_prompt_completion.jsonl", 104, {"user", "assistant"}),
        ("dialogue/taskmaster4_coffee_messages.jsonl", 1210, {"user", "assistant"}),
    ],
)
def test_real_data_of_every_format_is_read_whole(real_data, file, rows, roles):
    problems = Problems()
    examples = conversations(rows_of(str(real_data / file)), "auto", problems)
    problems.raise_if_any()
    assert len(examples) == rows
    assert {message["role"] for example in examples for message in example.messages} == roles
    assert all(example.has_answer for example in examples)
