"""What is learned with the chat templates of model families; docs/chat_templates.md shows it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from chat_families import FAMILIES
from data_helpers import mark, save_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from sweeper.data import load_tokenizer
from sweeper.data.preview import shown_rows
from sweeper.data.problems import Problems
from sweeper.data.read.formats import Example, conversations
from sweeper.data.read.messages import Message
from sweeper.data.read.read import Row
from sweeper.data.render.light_tokenizer import light_tokenizer
from sweeper.data.render.tokens import tokenize
from sweeper.data.render.tools import Renderer

DOCS = Path(__file__).parents[2] / "docs" / "chat_templates.md"
TALK = (("user", "1+1?"), ("assistant", "2"), ("user", "1+2?"), ("assistant", "3"))


def row(turns, *, reasoning: bool = False) -> dict[str, object]:
    messages = [{"role": role, "content": content} for role, content in turns]
    for message in messages:
        if reasoning and message["role"] == "assistant":
            message["reasoning_content"] = f"It is {message['content']}."
    return {"messages": messages}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model's folder for each family."""
    folders = {}
    for name, family in FAMILIES.items():
        folder = tmp_path_factory.mktemp("family")
        folders[name] = save_tokenizer(
            folder, chat_template=family.template, eos=family.eos, bos=family.bos, markers=family.markers
        )
    return folders


@pytest.fixture(scope="module")
def show(folders):
    """Gives the marked texts of a row with a family's template."""
    made = {}

    def marked(name: str, fields: dict[str, object]) -> list[str]:
        if name not in made:
            tokenizer = light_tokenizer(str(folders[name]), "auto")
            made[name] = tokenizer, Renderer(tokenizer)
        tokenizer, renderer = made[name]
        problems = Problems()
        (example,) = conversations([Row(fields, "a", "1")], "auto", problems)
        return [mark(one.text, one.loss) for one in shown_rows(example, renderer, tokenizer, 10**6)]

    return marked


def table_row(name: str, show) -> str:
    """One line of the table in the docs."""

    def cell(texts: list[str]) -> str:
        return "<br>".join(f"`{text}`" for text in texts).replace("\n", "↵").replace("|", "\\|")

    plain, thought = show(name, row(TALK)), show(name, row(TALK[:2], reasoning=True))
    return f"| {name} | {cell(plain)} | {cell(thought)} |"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_docs_show_what_is_learned_of_each_family(name, show):
    assert table_row(name, show) in DOCS.read_text(encoding="utf-8").split("\n")


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_is_learned_behind_exactly_what_the_model_is_asked_with(name, folders):
    """The row begins with the tokens of apply_chat_template with add_generation_prompt."""
    tokenizer = load_tokenizer(str(folders[name]))
    (example,) = conversations([Row(row(TALK[:2]), "a", "1")], "auto", Problems())
    ((_, tokens),) = tokenize([example], tokenizer, 10**6, Problems())
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1?"}], add_generation_prompt=True, tokenize=False
    )
    context = tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert tokens.ids[: len(context)].tolist() == context
    assert tokens.first_loss >= len(context)
    supplied = tokenizer.decode(tokens.ids[len(context) : tokens.first_loss])
    assert (
        not supplied.replace("<think>", "")
        .replace("</think>", "")
        .replace("<|channel|>final<|message|>", "")
        .strip()
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_system_message_is_in_the_text_of_every_family(name, show):
    (text,) = show(name, row((("system", "Be brief."), *TALK[:2])))
    assert "Be brief." in text.partition("«")[0]


SAID = st.text(alphabet="ab1 .,é🙂<>|/\n", min_size=1, max_size=10).filter(str.strip)


@pytest.mark.parametrize("name", FAMILIES)
@given(answers=st.lists(st.tuples(SAID, st.sampled_from(["", "hmm", "a\nb"])), min_size=1, max_size=3))
def test_each_answer_is_learned_once_with_what_ends_it(name, show, answers):
    turns = []
    for content, reasoning in answers:
        turns += [{"role": "user", "content": "q?"}]
        turns += [{"role": "assistant", "content": content, "reasoning_content": reasoning}]
    texts = show(name, {"messages": copy.deepcopy(turns)})
    learned = [part.partition("»")[0] for text in texts for part in text.split("«")[1:]]
    assert len(learned) == len(answers)
    for (content, reasoning), said in zip(answers, learned, strict=True):
        assert content.strip() in said
        assert reasoning in said
        assert said.rstrip() != content.rstrip()


def test_the_real_and_the_light_tokenizer_agree_on_every_family(folders):
    messages = tuple(Message(role=role, content=content) for role, content in TALK)
    for folder in folders.values():
        real, light = load_tokenizer(str(folder)), light_tokenizer(str(folder), "auto")
        found = [
            [
                (one.ids.tolist(), one.mask.tolist())
                for _, one in tokenize([Example(messages, "")], tokenizer, 512, Problems())
            ]
            for tokenizer in (real, light)
        ]
        assert found[0] == found[1]
