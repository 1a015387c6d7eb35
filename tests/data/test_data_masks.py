"""Loss is on what the assistant says and on what ends its turn, and on nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.data import load_tokenizer
from sweeper.data.problems import Problems
from sweeper.data.read.formats import Example
from sweeper.data.read.messages import Message
from sweeper.data.render.chat_template import ChatTemplate
from sweeper.data.render.render import Rendered, render_conversation
from sweeper.data.render.tokens import TokenRow, tokenize

TURNS = st.lists(
    st.tuples(
        st.sampled_from(["user", "assistant", "system", "tool"]),
        st.text(alphabet=st.sampled_from("ab .,\n\té日🙂'1"), max_size=12),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def chat_tokenizer(chat_model):
    return load_tokenizer(str(chat_model))


@pytest.fixture(scope="module")
def plain_tokenizer(plain_model):
    return load_tokenizer(str(plain_model))


def messages(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role=role, content=content) for role, content in turns)


def render(turns: tuple[Message, ...], tokenizer: Any) -> Rendered:
    example = Example(turns, "")
    (rendered,) = render_conversation(example, ChatTemplate(tokenizer))
    return rendered


def row_of(example: Example, tokenizer: Any, limit: int = 10_000) -> TokenRow:
    problems = Problems()
    ((index, row),) = tokenize([example], tokenizer, limit, problems)
    problems.raise_if_any()
    assert index == 0
    return row


def token_row(turns: tuple[Message, ...], tokenizer: Any, limit: int = 10_000) -> TokenRow:
    return row_of(Example(turns, "a.jsonl:1"), tokenizer, limit)


def learned(row: TokenRow, tokenizer: Any) -> str:
    return tokenizer.decode(row.ids[row.mask])


CONVERSATION = messages(
    ("system", "Be brief."), ("user", "One?"), ("assistant", "1 é"), ("user", "Two?"), ("assistant", "2 🙂")
)


def test_with_a_chat_template_every_answer_and_its_end_token_is_learned(chat_tokenizer):
    row = token_row(CONVERSATION, chat_tokenizer)
    assert learned(row, chat_tokenizer) == "1 é<|im_end|>2 🙂<|im_end|>"
    assert chat_tokenizer.decode(row.ids) == render(CONVERSATION, chat_tokenizer).text
    assert row.ids.dtype == "int32"
    assert not row.truncated


def test_without_a_chat_template_every_answer_and_its_end_token_is_learned(plain_tokenizer):
    row = token_row(CONVERSATION, plain_tokenizer)
    assert learned(row, plain_tokenizer) == "1 é<|im_end|>2 🙂<|im_end|>"
    assert plain_tokenizer.decode(row.ids).startswith(
        "System:\nBe brief.\n\nUser:\nOne?\n\nAssistant:\n1 é<|im_end|>"
    )


def test_without_an_end_token_a_blank_line_ends_the_answer(plain_model):
    tokenizer = load_tokenizer(str(plain_model))
    tokenizer.eos_token = None
    rendered = render(CONVERSATION, tokenizer)
    assert rendered.text.endswith("Assistant:\n2 🙂\n\n")
    assert [rendered.text[start:end] for start, end in rendered.spans] == ["1 é\n\n", "2 🙂\n\n"]


@given(turns=TURNS)
@settings(max_examples=60)
def test_the_spans_of_a_template_are_exactly_the_answers(chat_tokenizer, turns):
    rendered = render(messages(*turns), chat_tokenizer)
    said = [content + "<|im_end|>" for role, content in turns if role == "assistant"]
    assert [rendered.text[start:end] for start, end in rendered.spans] == said


@given(turns=TURNS)
@settings(max_examples=60)
def test_the_tokens_that_are_learned_spell_exactly_the_answers(chat_tokenizer, turns):
    # An answer that starts with white space may share its first token with the line end before it.
    turns = [(role, content.lstrip()) for role, content in turns]
    row = token_row(messages(*turns), chat_tokenizer)
    said = "".join(content + "<|im_end|>" for role, content in turns if role == "assistant")
    assert learned(row, chat_tokenizer) == said


@given(turns=TURNS)
@settings(max_examples=60)
def test_plainly_rendered_spans_are_exactly_the_answers(plain_tokenizer, turns):
    rendered = render(messages(*turns), plain_tokenizer)
    said = [content + "<|im_end|>" for role, content in turns if role == "assistant"]
    assert [rendered.text[start:end] for start, end in rendered.spans] == said
    assert not rendered.text.endswith("<|im_end|>\n\n")


def test_a_prompt_carries_no_loss_whoever_says_it(chat_tokenizer):
    row = row_of(Example(CONVERSATION, "a.jsonl:1", prompt_messages=3), chat_tokenizer)
    assert learned(row, chat_tokenizer) == "2 🙂<|im_end|>"


def test_plain_text_is_learned_whole_but_for_its_first_token(chat_tokenizer):
    row = row_of(Example((), "a.jsonl:1", text="One day, é 🙂."), chat_tokenizer)
    assert chat_tokenizer.decode(row.ids) == "One day, é 🙂.<|im_end|>"
    assert not row.mask[0]
    assert row.mask[1:].all()


def test_the_first_token_never_carries_loss(model_with_template):
    bare = load_tokenizer(str(model_with_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")))
    row = token_row(messages(("assistant", "hello there")), bare)
    assert not row.mask[0]
    assert row.mask[1:].all()


def test_a_long_row_is_cut_and_says_so(chat_tokenizer):
    whole = token_row(CONVERSATION, chat_tokenizer)
    cut = token_row(CONVERSATION, chat_tokenizer, limit=len(whole.ids) - 3)
    assert cut.truncated
    assert (cut.ids == whole.ids[:-3]).all()
    assert (cut.mask == whole.mask[:-3]).all()
    assert not token_row(CONVERSATION, chat_tokenizer, limit=len(whole.ids)).truncated


def refusal(tokenizer: Any, *turns: tuple[str, str]) -> str:
    problems = Problems()
    rows = list(tokenize([Example(messages(*turns), "a.jsonl:7")], tokenizer, 100, problems))
    assert rows == []
    return "\n".join(map(str, problems.told()))


def test_a_row_that_the_template_fails_on_is_named(model_with_template):
    template = (
        "{% for m in messages %}{% if 's' in m['content'] %}{{ raise_exception('no system') }}{% endif %}"
    )
    tokenizer = load_tokenizer(str(model_with_template(template + "{{ m['content'] }}{% endfor %}")))
    told = refusal(tokenizer, ("system", "s"), ("assistant", "a"))
    assert "a.jsonl:7" in told
    assert "no system" in told


def test_a_template_that_rewrites_earlier_turns_is_refused(model_with_template):
    template = "{% for m in messages %}{% if loop.last %}{{ m['content'] }};{% endif %}{% endfor %}"
    tokenizer = load_tokenizer(str(model_with_template(template)))
    told = refusal(tokenizer, ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b"))
    assert "a.jsonl:7" in told
    assert "rewrites what comes before assistant message 2" in told


def test_a_template_that_cannot_start_with_the_assistant_is_told_so(model_with_template):
    template = "{{ messages[0]['role'] }}{% for m in messages %}{{ m['content'] }};{% endfor %}"
    tokenizer = load_tokenizer(str(model_with_template(template)))
    assert "the first message is the assistant's" in refusal(tokenizer, ("assistant", "a"))


def test_white_space_that_is_all_that_ends_a_turn_is_learned(model_with_template):
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = load_tokenizer(str(model_with_template(template)))
    rendered = render(messages(("user", "q"), ("assistant", "yes")), tokenizer)
    assert [rendered.text[start:end] for start, end in rendered.spans] == ["yes\n"]


@pytest.fixture
def beginning_tokenizer(plain_model, tmp_path):
    """The plain one, putting a begin token before text by itself."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(str(plain_model))
    tokenizer.chat_template = None
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    return load_tokenizer(str(tmp_path))


def test_a_begin_token_that_the_tokenizer_adds_stands_before_plain_turns_and_text(beginning_tokenizer):
    assert render(messages(("user", "q")), beginning_tokenizer).text == "<|im_start|>User:\nq"
    row = token_row(messages(("user", "q"), ("assistant", "a")), beginning_tokenizer)
    decoded = beginning_tokenizer.decode(row.ids)
    assert decoded == "<|im_start|>User:\nq\n\nAssistant:\na<|im_end|>"
    assert learned(row, beginning_tokenizer) == "a<|im_end|>"
    text = row_of(Example((), "a.jsonl:1", text="Once."), beginning_tokenizer)
    assert beginning_tokenizer.decode(text.ids) == "<|im_start|>Once.<|im_end|>"
    assert learned(text, beginning_tokenizer) == "Once.<|im_end|>"
