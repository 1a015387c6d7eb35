"""Rows of every format become conversations; what fits none is told with its fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from data_helpers import rows_of

from sweeper.data.problems import Problems
from sweeper.data.read.formats import Example, conversations
from sweeper.data.read.read import Row

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
    "sharegpt": (
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"},
            ],
            "id": 1,
        },
        [("system", "s"), ("user", "q"), ("assistant", "a")],
    ),
    "self_instruct": (
        {"instruction": "Add.", "instances": [{"input": "1 2", "output": 3}]},
        [("user", "Add.\n\n1 2"), ("assistant", "3")],
    ),
}


def examples_of(rows: list[dict[str, Any]], data_format: str = "auto") -> tuple[list[Example], str]:
    problems = Problems()
    numbered = [Row(fields, "a.jsonl", str(number)) for number, fields in enumerate(rows, start=1)]
    examples = conversations(numbered, data_format, problems)
    return examples, "\n".join(map(str, problems.told()))


def convert(rows: list[dict[str, Any]], data_format: str = "auto") -> tuple[list[list[tuple[str, str]]], str]:
    examples, told = examples_of(rows, data_format)
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
    _, told = convert([{"talk": [], "id": 1}])
    assert "a.jsonl:1" in told
    assert "fields id, talk" in told
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
    assert len(conversations(rows, "auto", problems)) == len(EXAMPLES)
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
        ({"messages": [{"role": "robot", "content": "x"}]}, "message 1 has no known role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "message 1 has no known role"),
        (
            {"messages": [{"role": "assistant", "content": [{"text": "x"}]}]},
            "part 1 of content of message 1 is no text part",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "image_url: part 1 of content of message 1 is no text part",
        ),
        ({"messages": [{"role": "assistant", "content": None}]}, "content of message 1 is not text"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}]},
            "call 1 in tool_calls of message 1 is not a function with a name",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]},
            "arguments of call 1 in tool_calls of message 1 is not JSON",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}]},
            "arguments of call 1 in tool_calls of message 1 is not an object",
        ),
        ({"messages": [{"role": "user", "content": "x"}], "tools": "[{"}, "tools is not JSON"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": {"name": "f"}}, "not a list of functions"),
        (
            {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "f"}]},
            "tool 1 of tools is not",
        ),
        ({"conversations": []}, "at least one turn"),
        ({"conversations": [{"role": "user"}]}, "message 1 is not an object with role and content"),
        ({"conversations": [{"by": "user"}]}, "turn 1 is not an object with from and value"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "turn 1 is from nobody known"),
        ({"conversations": [{"from": ["gpt"], "value": "x"}]}, "turn 1 is from nobody known"),
        (
            {"conversations": [{"from": "function_call", "value": '{"name": "f", "arguments": {"x"}}'}]},
            "value of turn 1 is not JSON: expecting ':' delimiter",
        ),
        ({"conversations": [{"from": "function_call", "value": "[]"}]}, "value of turn 1 holds no call"),
        (
            {"conversations": [{"from": "gpt", "value": "x"}], "tools": '[{"name": "\\ud83d"}]'},
            "tool 1 of tools holds half of a surrogate pair",
        ),
        ({"instruction": "i", "output": "o", "history": "h"}, "history is not a list"),
        ({"instruction": "i", "output": "o", "history": [["a"]]}, "item 1 of history is no"),
        ({"instruction": "i", "instances": []}, "at least one instance"),
        ({"instruction": "i", "instances": [{"output": "o"}, {"input": "x"}]}, "instance 2 is not an object"),
        ({"prompt": [{"role": "user", "content": "x"}], "completion": "y"}, "at least one message"),
    ],
)
def test_broken_messages_are_refused_with_the_reason(row, rule):
    assert rule in convert([row])[1]


def test_text_is_a_format_only_where_nothing_else_fits():
    (example,), told = examples_of([{"text": "Once.", "id": 1}])
    assert (example.text, example.messages, example.has_answer, told) == ("Once.", (), True, "")
    alpaca = EXAMPLES["alpaca"]
    assert convert([{**alpaca[0], "text": "Add. 1 2 3"}]) == ([alpaca[1]], "")


def test_every_instance_of_a_row_is_an_example_with_its_place():
    row = {"instruction": "Double.", "instances": [{"input": "1", "output": "2"}, {"output": "nothing"}]}
    examples, told = examples_of([row, row])
    assert told == ""
    assert [example.where for example in examples] == [
        f"a.jsonl:{line} instance {number}" for line in (1, 2) for number in (1, 2)
    ]
    assert examples[1].messages == (
        {"role": "user", "content": "Double."},
        {"role": "assistant", "content": "nothing"},
    )


def test_what_was_said_before_an_alpaca_row_comes_first():
    row = {"instruction": "i", "output": "o", "system": "s", "history": [["q", "a"], ["r", "b"]]}
    said = "".join(content for _, content in convert([row])[0][0])
    assert said == "sqarbio"


def test_a_prompt_of_messages_is_given_and_not_learned():
    user, assistant = ({"role": role, "content": role} for role in ("user", "assistant"))
    row = {"prompt": [user, assistant, user], "completion": [assistant], "tools": [{"name": "f"}]}
    (example,), told = examples_of([row])
    assert told == ""
    assert example.messages == (user, assistant, user, assistant)
    assert (example.prompt_messages, example.has_answer, len(example.tools)) == (3, True, 1)
    assert not examples_of([{**row, "completion": [user]}])[0][0].has_answer


def test_a_table_holds_lists_as_json_text():
    for name in ("messages", "sharegpt", "self_instruct"):
        row, expected = EXAMPLES[name]
        table = {key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()}
        assert convert([table]) == ([expected], "")
    assert "messages is not JSON" in convert([{"messages": "[{"}])[1]


def test_a_number_beyond_all_floats_is_text():
    assert convert([{"question": "q", "answer": 10**400}])[0][0][1] == ("assistant", str(10**400))


def test_text_parts_of_a_message_are_joined():
    content = [{"type": "text", "text": "a", "image_url": None}, "b", {"type": "text", "text": "c"}]
    assert convert([{"messages": [{"role": "user", "content": content}]}])[0] == [[("user", "abc")]]


CALL = {"name": "add", "arguments": {"a": 1}}
WRAPPED = {"type": "function", "function": CALL}
TOOL = {"name": "add", "description": "Adds.", "parameters": {}}


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL]), [{"type": "function", "function": TOOL}]])
@pytest.mark.parametrize(
    "turns",
    [
        {"conversations": [{"from": "function_call", "value": json.dumps(CALL)}]},
        {"conversations": [{"from": "function_call", "value": json.dumps([CALL])}]},
        {"conversations": [{"from": "function_call", "value": CALL}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [WRAPPED]}]},
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{**WRAPPED, "function": {"name": "add", "arguments": '{"a": 1}'}}],
                }
            ]
        },
    ],
)
def test_tools_and_calls_come_to_one_form_however_they_are_written(turns, tools):
    (example,), told = examples_of([{**turns, "tools": tools}])
    assert told == ""
    assert example.messages == ({"role": "assistant", "content": "", "tool_calls": [WRAPPED]},)
    assert example.tools == ({"type": "function", "function": TOOL},)
    assert example.has_answer


def test_an_observation_is_a_message_of_the_tool():
    turns = [{"from": "observation", "value": "3"}, {"from": "gpt", "value": "It is 3."}]
    assert convert([{"conversations": turns, "tools": "[]", "system": "s"}]) == (
        [[("system", "s"), ("tool", "3"), ("assistant", "It is 3.")]],
        "",
    )
    answer = {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"}
    (example,), _ = examples_of([{"messages": [answer]}])
    assert example.messages == (answer,)


def test_the_first_row_of_a_known_shape_decides_and_rows_before_it_are_broken():
    good, expected = EXAMPLES["question_answer"]
    converted, told = convert([{"x": 1}, good, good])
    assert converted == [expected, expected]
    assert told.startswith("a.jsonl:1: fields x: question and answer is missing")


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
        ("dialogue/fastchat_dummy_conversation.json", 500, {"user", "assistant"}),
        ("general/self_instruct_seed_tasks.jsonl", 175, {"user", "assistant"}),
        ("math/gsm8k_test.jsonl", 1319, {"user", "assistant"}),
        ("tools/glaive_toolcall_en_demo.json", 300, {"user", "assistant", "tool"}),
    ],
)
def test_real_data_of_every_format_is_read_whole(real_data, file, rows, roles):
    problems = Problems()
    examples = conversations(rows_of(str(real_data / file)), "auto", problems)
    problems.raise_if_any()
    assert len(examples) == rows
    assert {message["role"] for example in examples for message in example.messages} == roles
    assert all(example.has_answer for example in examples)
