"""Named chat templates, templates from files, and the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.data import gather_facts, load_tokenizer, prepare
from sweeper.data.read.formats import Example
from sweeper.data.read.messages import Message
from sweeper.data.render.chat_template import ChatTemplate
from sweeper.data.render.render import render_conversation
from sweeper.data.render.templates import AUTO, TEMPLATES
from sweeper.data.render.tokenizer import unknown_markers
from sweeper.errors import ModelError
from sweeper.space import TemplateName

ROWS = [{"question": f"How much is {n} + 1?", "answer": f"It is {n + 1}."} for n in range(20)]
TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="One?"),
    Message(role="assistant", content="1"),
    Message(role="user", content="Two?"),
    Message(role="assistant", content="2"),
)
TEXTS = {
    "plain": (
        "System:\nBe brief.\n\nUser:\nOne?\n\nAssistant:\n1<|im_end|>\n\n"
        "User:\nTwo?\n\nAssistant:\n2<|im_end|>"
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n"
        "<|im_start|>assistant\n1<|im_end|>\n<|im_start|>user\nTwo?<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n"
    ),
    "llama3": (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nOne?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nTwo?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n2<|eot_id|>"
    ),
    "zephyr": (
        "<|system|>\nBe brief.<|im_end|>\n<|user|>\nOne?<|im_end|>\n<|assistant|>\n1<|im_end|>\n"
        "<|user|>\nTwo?<|im_end|>\n<|assistant|>\n2<|im_end|>\n"
    ),
    "alpaca": (
        "Be brief.\n\n### Instruction:\nOne?\n\n### Response:\n1<|im_end|>\n\n"
        "### Instruction:\nTwo?\n\n### Response:\n2<|im_end|>\n\n"
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_is_used_instead_of_the_models_own(name, chat_model):
    tokenizer = load_tokenizer(str(chat_model), chat_template=name)
    (rendered,) = render_conversation(Example(TALK, ""), ChatTemplate(tokenizer))
    assert rendered.text == TEXTS[name]
    end = "<|eot_id|>" if name == "llama3" else "<|im_end|>"
    assert [rendered.text[start:stop] for start, stop in rendered.spans] == [f"1{end}", f"2{end}"]


@pytest.mark.parametrize("name", TEMPLATES)
@given(
    turns=st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant", "system", "tool"]), st.text(alphabet="ab é\n", max_size=6)
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=25, derandomize=True)
def test_every_named_template_only_adds_text(name, plain_model_templates, turns):
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    (rendered,) = render_conversation(Example(messages, ""), plain_model_templates[name])
    said = [content for role, content in turns if role == "assistant"]
    assert len(rendered.spans) == len(said)
    for (start, end), content in zip(rendered.spans, said, strict=True):
        assert content.strip() in rendered.text[start:end]


@pytest.fixture(scope="module")
def plain_model_templates(plain_model):
    tokenizers = {name: load_tokenizer(str(plain_model), chat_template=name) for name in TEMPLATES}
    return {name: ChatTemplate(tokenizer) for name, tokenizer in tokenizers.items()}


def test_the_names_are_those_of_the_space_file():
    assert {AUTO, *TEMPLATES} == {*get_args(TemplateName)} == {AUTO, *TEXTS}


def test_without_a_template_of_its_own_a_model_gets_the_plain_one(plain_model, chat_model):
    assert load_tokenizer(str(plain_model)).chat_template == TEMPLATES["plain"]
    assert load_tokenizer(str(chat_model)).chat_template not in TEMPLATES.values()


def test_a_saved_tokenizer_carries_the_template(plain_model, tmp_path):
    load_tokenizer(str(plain_model), chat_template="zephyr").save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).chat_template == TEMPLATES["zephyr"]


def test_a_file_is_a_template(chat_model, make_config, write_jsonl, tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}{{ '[' ~ m['content'] ~ ']' }}{% endfor %}")
    data = prepare(make_config(chat_model, write_jsonl(ROWS), chat_template=str(file)), tmp_path / "cache")
    tokenizer = load_tokenizer(str(chat_model), chat_template=str(file))
    assert tokenizer.decode(data.train.row(0)[0]) == "[How much is 0 + 1?][It is 1.]"


def told(model: Path, chat_template: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(model), chat_template=chat_template)
    return str(caught.value)


def test_a_template_that_is_not_there_or_not_jinja_is_told(
    chat_model, make_config, write_jsonl, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("broken.jinja").write_text("{% for m in messages %}\n{{ m }")
    Path("latin.jinja").write_bytes(b"\xe9")
    assert "did you mean chatml?" in told(chat_model, "chatlm")
    assert "plain, chatml, llama3, zephyr, alpaca" in told(chat_model, "mistral")
    assert "No such file" in told(chat_model, "none.jinja")
    assert "cannot be read" in told(chat_model, "latin.jinja")
    assert told(chat_model, "broken.jinja").startswith("broken.jinja:2: the chat template is not jinja")
    with pytest.raises(ModelError, match=r"none.jinja: the file cannot be read"):
        gather_facts(make_config(chat_model, write_jsonl(ROWS), chat_template="none.jinja"))


def test_a_template_file_may_refuse_a_conversation(chat_model, tmp_path):
    file = tmp_path / "strict.jinja"
    file.write_text("{{ raise_exception('only tools') }}")
    assert load_tokenizer(str(chat_model), chat_template=str(file)).chat_template == file.read_text()


def test_markers_that_are_no_tokens_are_noted(chat_model, make_config, write_jsonl, tmp_path):
    file = write_jsonl(ROWS)
    known = prepare(make_config(chat_model, file, chat_template="chatml"), tmp_path / "cache")
    assert known.notes == ()
    unknown = prepare(make_config(chat_model, file, chat_template="llama3"), tmp_path / "cache")
    (note,) = unknown.notes
    assert "<|start_header_id|>, <|end_header_id|>, <|eot_id|> of chat_template llama3" in note
    assert unknown_markers(load_tokenizer(str(chat_model), chat_template="plain")) == ()
