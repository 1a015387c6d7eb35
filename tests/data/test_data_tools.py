"""Tools, calls and their answers, natively where the template writes them and as text where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from data_helpers import WITH_DEFAULT
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.data import load_tokenizer
from sweeper.data.problems import Problems
from sweeper.data.read.formats import Example, conversations
from sweeper.data.read.read import Row
from sweeper.data.render.chat_template import TemplateProblem
from sweeper.data.render.render import Rendered
from sweeper.data.render.tools import Renderer

NATIVE = (
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n' }}"
    "{% for tool in tools %}{{ tool | tojson ~ '\n' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' ~ m['role'] ~ '\n' ~ m['content'] }}"
    "{% for call in m['tool_calls'] or [] %}"
    "{{ '<call>' ~ call['function']['name'] ~ ' ' ~ call['function']['arguments'] | tojson ~ '</call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ONE_CALL = (
    "{% for m in messages %}{% if m['tool_calls'] | length > 1 %}{{ raise_exception('one') }}{% endif %}"
)
ONE_CALL += "{% endfor %}" + NATIVE
STRICT = (
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no turn') }}{% endif %}"
    "{{ '<|im_start|>' ~ m['role'] ~ '\n' ~ m['content'] ~ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THREE_ROLES = (
    "{% for m in messages %}{% if m['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role') }}{% endif %}"
    "{{ '<|im_start|>' ~ m['role'] ~ '\n' ~ m['content'] ~ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TOOL = {"name": "add", "description": "Adds numbers.", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "add", "arguments": {"a": 1, "é": ["x"]}}
ROW = {
    "conversations": [
        {"from": "human", "value": "1 + 1?"},
        {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": '{"sum": 2}'},
        {"from": "gpt", "value": "It is 2."},
    ],
    "tools": json.dumps([TOOL]),
}
CALL_TEXT = '{"name": "add", "arguments": {"a": 1, "é": ["x"]}}'


def example_of(row: dict[str, Any]) -> Example:
    problems = Problems()
    (example,) = conversations([Row(row, "a.jsonl", "1")], "auto", problems)
    problems.raise_if_any()
    return example


@pytest.fixture(scope="module")
def renderer_of(model_with_template) -> Callable[[str], Renderer]:
    made: dict[str, Renderer] = {}

    def make(template: str) -> Renderer:
        if template not in made:
            made[template] = Renderer(load_tokenizer(str(model_with_template(template))))
        return made[template]

    return make


def render(renderer: Renderer, example: Example) -> Rendered:
    (rendered,) = renderer.render(example)
    return rendered


def learned(rendered: Rendered) -> list[str]:
    return [rendered.text[start:end] for start, end in rendered.spans]


def test_a_template_that_knows_tools_writes_them_in_its_own_way(renderer_of):
    rendered = render(renderer_of(NATIVE), example_of(ROW))
    assert "tools_as_text" not in rendered.adapted
    assert rendered.text.startswith(
        '<|im_start|>system\n# Tools\n{"type": "function", "function": {"name": "add"'
    )
    assert learned(rendered)[0].startswith('<call>add {"a": 1')
    assert learned(rendered)[1] == "It is 2.<|im_end|>"
    assert '<|im_start|>tool\n{"sum": 2}' in rendered.text


@pytest.mark.parametrize(
    ("template", "answers_as", "tools_in"),
    [
        (WITH_DEFAULT, "tool", "system"),
        (THREE_ROLES, "user", "system"),
        (STRICT, "user", "user"),
    ],
)
def test_a_template_that_knows_none_gets_them_as_text(template, answers_as, tools_in, renderer_of):
    rendered = render(renderer_of(template), example_of(ROW))
    assert "tools_as_text" in rendered.adapted
    assert learned(rendered) == [f"{CALL_TEXT}<|im_end|>", "It is 2.<|im_end|>"]
    assert f'<|im_start|>{answers_as}\n{{"sum": 2}}<|im_end|>' in rendered.text
    asked = rendered.text[: rendered.spans[0][0]]
    head = asked.partition("<|im_start|>assistant")[0]
    assert head.startswith(f"<|im_start|>{tools_in}\nFunctions that can be called")
    assert json.dumps(TOOL) in head
    assert "Be kind." not in head


def test_the_tools_follow_what_the_system_says(renderer_of):
    row = {**ROW, "system": "Be brief."}
    for template in (WITH_DEFAULT, THREE_ROLES):
        text = render(renderer_of(template), example_of(row)).text
        assert text.startswith("<|im_start|>system\nBe brief.\n\nFunctions that can be called")


def test_rows_without_tools_are_not_touched(renderer_of):
    row = {"conversations": [ROW["conversations"][0], ROW["conversations"][3]], "tools": "[]"}
    for template in (NATIVE, WITH_DEFAULT, STRICT):
        rendered = render(renderer_of(template), example_of(row))
        assert "tools_as_text" not in rendered.adapted
        assert learned(rendered) == ["It is 2.<|im_end|>"]


def test_a_row_that_a_native_template_refuses_is_written_as_text(renderer_of):
    two = {**ROW, "conversations": [*ROW["conversations"]]}
    two["conversations"][1] = {"from": "function_call", "value": json.dumps([CALL, CALL])}
    renderer = renderer_of(ONE_CALL)
    assert not render(renderer, example_of(ROW)).adapted
    rendered = render(renderer, example_of(two))
    assert "tools_as_text" in rendered.adapted
    assert learned(rendered)[0] == f"{CALL_TEXT}\n{CALL_TEXT}<|im_end|>"


def test_a_call_that_a_native_template_leaves_out_is_written_as_text(renderer_of):
    template = NATIVE.replace("in m['tool_calls'] or []", "in (m['tool_calls'] or []) if not m['content']")
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    row = {"messages": [{"role": "user", "content": "q"}, turn], "tools": [TOOL]}
    renderer = renderer_of(template)
    assert not render(renderer, example_of(ROW)).adapted
    rendered = render(renderer, example_of(row))
    assert "tools_as_text" in rendered.adapted
    assert learned(rendered) == [f"Let me see.\n{CALL_TEXT}<|im_end|>"]


def test_what_is_said_before_a_call_stays(renderer_of):
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    row = {"messages": [{"role": "user", "content": "q"}, turn], "tools": [TOOL]}
    rendered = render(renderer_of(WITH_DEFAULT), example_of(row))
    assert learned(rendered) == [f"Let me see.\n{CALL_TEXT}<|im_end|>"]


def test_a_prompt_stays_without_loss_when_the_tools_add_a_message(renderer_of):
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    row = {"prompt": [user, answer, user], "completion": [{**answer, "content": "b"}], "tools": [TOOL]}
    assert learned(render(renderer_of(WITH_DEFAULT), example_of(row))) == ["b<|im_end|>"]


def test_a_row_that_no_way_suits_is_a_problem_of_the_template(renderer_of):
    renderer = renderer_of("{% for m in messages %}{{ raise_exception('never') }}{% endfor %}")
    with pytest.raises(TemplateProblem, match="never"):
        render(renderer, example_of(ROW))


TURNS = st.lists(
    st.sampled_from(["human", "gpt", "function_call", "observation", "system"]), min_size=1, max_size=7
)
SAID = st.text(alphabet=st.sampled_from("ab .,{}\"é🙂'1"), min_size=1, max_size=8).map(str.strip).filter(bool)


@given(turns=TURNS, said=st.lists(SAID, min_size=7, max_size=7), native=st.booleans())
@settings(max_examples=60, derandomize=True)
def test_loss_is_on_every_turn_of_the_assistant_and_on_no_other(renderer_of, turns, said, native):
    def value(index: int) -> str:
        call = {"name": "add", "arguments": {"x": said[index]}}
        return json.dumps(call) if turns[index] == "function_call" else said[index]

    row = {"conversations": [{"from": turn, "value": value(i)} for i, turn in enumerate(turns)]}
    renderer = renderer_of(NATIVE if native else WITH_DEFAULT)
    found = learned(render(renderer, example_of({**row, "tools": [TOOL]})))
    spoken = [i for i, turn in enumerate(turns) if turn in ("gpt", "function_call")]
    assert len(found) == len(spoken)
    for text, index in zip(found, spoken, strict=True):
        assert text.endswith("<|im_end|>")
        assert text.count("<|im_end|>") == 1
        if turns[index] == "gpt":
            assert text == said[index] + "<|im_end|>"
        elif not native:
            assert json.loads(text.removesuffix("<|im_end|>"))["arguments"] == {"x": said[index]}
