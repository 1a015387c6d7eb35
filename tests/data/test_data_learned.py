"""What of people's data is learned, as `sweeper data` shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from data_helpers import save_tokenizer

from sweeper.data import gather_facts, load_tokenizer, prepare
from sweeper.errors import DataError, SpaceFileError

TURN = "<|{{ m.role }}|>\n"
EVERY_TURN = (
    "{% for m in messages %}"
    + TURN
    + "{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content or '' }}\n"
    "</think>\n\n{% endif %}{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
OPENED = EVERY_TURN.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")
LAST_TURN = EVERY_TURN.replace("m.role == 'assistant' %}", "m.role == 'assistant' and loop.last %}")
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if not loop.first and m.role == messages[loop.index0 - 1].role %}"
    "{{ raise_exception('twice') }}{% endif %}"
    + TURN
    + "{{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SILENT_ON_SYSTEM = NO_SYSTEM.replace("{{ raise_exception('no system') }}", "{% continue %}")
END = "<|im_end|>"


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def rows(*messages: dict[str, Any], count: int = 8) -> list[dict[str, Any]]:
    """The conversation and others like it."""
    more = [{"messages": [user(f"{n}?"), answer(str(n))]} for n in range(count - 1)]
    return [{"messages": list(messages)}, *more]


@pytest.fixture
def first(shown, model_with_template, write_jsonl):
    """The marked sequences of one conversation with a template, and all that is told."""

    def show(template: str, *messages: dict[str, Any], **settings: Any) -> tuple[list[str], dict[str, Any]]:
        file = write_jsonl(rows(*messages))
        told = shown(model_with_template(template), file, "--rows", "9", eval_data=0.1, **settings)
        here = [i for i, row in enumerate(told["rows"]) if row["source"] == f"{file}:1"]
        return [told["marked"][i] for i in here], told

    return show


@pytest.mark.parametrize(
    "key", ["weight", "train", "training", "trainable", "train_on_turn", "loss", "loss_mask"]
)
def test_a_turn_that_is_not_to_be_learned_carries_no_loss_and_stays_in_the_context(key, first):
    turns = [user("0+1?"), answer("no idea", **{key: 0}), user("again"), answer("1", **{key: True})]
    (marked,), told = first(NO_SYSTEM, *turns)
    asked = f"<|user|>\n0+1?{END}\n<|assistant|>\nno idea{END}\n<|user|>\nagain{END}\n<|assistant|>\n"
    assert marked == f"{asked}«1{END}»\n"
    assert not any("not used" in note for note in told["notes"])


def test_a_sharegpt_turn_may_have_a_weight_too(shown, chat_model, write_jsonl):
    def talk(number: int) -> dict[str, Any]:
        said = [{"from": "human", "value": f"{number}"}, {"from": "gpt", "value": "a", "weight": 0}]
        return {"conversations": [*said, {"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}]}

    told = shown(chat_model, write_jsonl([talk(number) for number in range(4)]), eval_data=0.25)
    assert len(told["marked"]) == 3
    assert all("«b<|im_end|>»" in text and "«a" not in text for text in told["marked"])


def test_a_weight_that_is_neither_nought_nor_one_is_refused(chat_model, make_config, write_jsonl):
    for wrong, rule in (
        ({"weight": 0.5}, "weight of message 2 is 0 or 1"),
        ({"weight": 1, "train": False}, "contradict"),
    ):
        with pytest.raises(DataError, match=rule):
            gather_facts(make_config(chat_model, write_jsonl(rows(user("q"), answer("a", **wrong)))))


def test_a_row_with_no_turn_to_learn_is_left_out_and_counted(shown, chat_model, write_jsonl):
    told = shown(chat_model, write_jsonl(rows(user("q"), answer("a", weight=0))), eval_data=0.1)
    assert told["left_out"] == {"without an answer": 1}


def test_keys_of_messages_that_nobody_knows_are_named_once(first):
    _, told = first(NO_SYSTEM, user("q") | {"mood": "glad"}, answer("a", score=3, mood="sad"))
    assert "keys of messages that are not used: mood, score" in told["notes"]
    _, told = first(
        NO_SYSTEM.replace("{{ m.content }}", "{{ m.mood }}{{ m.content }}"),
        user("q"),
        answer("a", mood="sad"),
    )
    assert not any("mood" in note for note in told["notes"])


@pytest.mark.parametrize(
    "said",
    [
        answer("1", reasoning_content="0 and 1 make 1."),
        answer("1", reasoning="0 and 1 make 1."),
        answer("1", thinking="0 and 1 make 1."),
        answer("<think>\n0 and 1 make 1.\n</think>\n\n1"),
        answer("0 and 1 make 1.\n</think>\n\n1"),
        answer([{"type": "thinking", "thinking": "0 and 1 make 1."}, {"type": "text", "text": "1"}]),
    ],
)
@pytest.mark.parametrize("template", [EVERY_TURN, LAST_TURN, OPENED])
def test_reasoning_is_learned_wherever_the_row_has_it(template, said, first):
    (marked,), _ = first(template, user("0+1?"), said)
    opened = "<think>\n«" if template == OPENED else "«<think>\n"
    assert marked == f"<|user|>\n0+1?{END}\n<|assistant|>\n{opened}0 and 1 make 1.\n</think>\n\n1{END}»\n"


@pytest.mark.parametrize("template", [EVERY_TURN, OPENED])
def test_an_empty_block_that_the_template_writes_carries_no_loss_unless_it_is_asked_for(template, first):
    turns = user("0+1?"), answer("1"), user("0+2?"), answer("2")
    (marked,), _ = first(template, *turns)
    block = "<think>\n\n</think>\n\n"
    asked = [f"<|user|>\n0+{n}?{END}\n<|assistant|>\n" for n in (1, 2)]
    assert marked == f"{asked[0]}{block}«1{END}»\n{asked[1]}{block}«2{END}»\n"
    (marked,), _ = first(template, *turns, learn_template_text=True)
    head = "<think>\n" if template == OPENED else ""
    rest = block.removeprefix(head)
    assert marked == f"{asked[0]}{head}«{rest}1{END}»\n{asked[1]}{head}«{rest}2{END}»\n"


@pytest.mark.parametrize("said", ["think", "<", ">", "im_end", "<|im_end", "assistant", "«"])
def test_an_answer_that_looks_like_the_templates_own_text_is_found(said, first):
    (marked,), _ = first(EVERY_TURN, user("q"), answer(said))
    assert marked == f"<|user|>\nq{END}\n<|assistant|>\n<think>\n\n</think>\n\n«{said}{END}»\n"


def test_where_the_template_rewrites_the_history_each_answer_has_its_own_context(first):
    marked, told = first(LAST_TURN, user("0+1?"), answer("1"), user("0+2?"), answer("2"))
    block = "<think>\n\n</think>\n\n"
    assert marked == [
        f"<|user|>\n0+1?{END}\n<|assistant|>\n{block}«1{END}»\n",
        f"<|user|>\n0+1?{END}\n<|assistant|>\n1{END}\n<|user|>\n0+2?{END}\n<|assistant|>\n{block}«2{END}»\n",
    ]
    (note,) = (note for note in told["notes"] if "one sequence for each answer" in note)
    assert note.startswith("1 rows become")
    assert "% of all tokens are read again" in note
    assert told["trained"] + told["held_out"] == 9


def test_sequences_of_one_row_are_rows_of_the_prepared_data(
    model_with_template, make_config, write_jsonl, tmp_path
):
    model = model_with_template(LAST_TURN)
    file = write_jsonl(rows(user("0+1?"), answer("1"), user("0+2?"), answer("2")) * 2)
    config = make_config(model, file, eval_data=0.1)
    data = prepare(config, tmp_path / "cache")
    facts = gather_facts(config).within(512, "truncate")
    assert (facts.train_rows, facts.eval_rows) == (data.train.rows, data.eval.rows)
    assert data.counts["rows_in_several_sequences"] >= 1
    assert data.counts["repeated_tokens"] > 0
    assert "in one sequence for each answer" in data.summary()


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT_ON_SYSTEM])
def test_a_system_message_goes_before_the_users_where_the_template_takes_none(template, first):
    (marked,), told = first(template, {"role": "system", "content": "Be brief."}, user("0+1?"), answer("1"))
    assert marked == f"<|user|>\nBe brief.\n\n0+1?{END}\n<|assistant|>\n«1{END}»\n"
    assert [note for note in told["notes"] if "system" in note] == [
        "1 rows with the system's text before the user's, since the chat template takes no system"
    ]


def test_neighbouring_turns_are_joined_where_roles_have_to_alternate(first):
    (marked,), told = first(NO_SYSTEM, user("a"), user("b"), answer("c"), answer("d"))
    assert marked == f"<|user|>\na\n\nb{END}\n<|assistant|>\n«c\n\nd{END}»\n"
    assert any("neighbouring turns of one role joined" in note for note in told["notes"])


def test_a_learned_turn_is_not_joined_with_one_that_is_not(first):
    with pytest.raises(DataError, match="twice"):
        first(NO_SYSTEM, user("a"), answer("c", weight=0), answer("d"))


def test_a_template_that_ends_no_turn_still_teaches_to_stop(shown, tmp_path, write_jsonl):
    template = (
        "{% for m in messages %}"
        + TURN
        + "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    file = write_jsonl(rows(user("q"), answer("a"), user("r"), answer("b")))
    made = {
        "marker": save_tokenizer(
            tmp_path / "m", chat_template=template, markers=("<|user|>", "<|assistant|>")
        ),
        "eos": save_tokenizer(tmp_path / "e", chat_template=template),
        "nothing": save_tokenizer(tmp_path / "n", chat_template=template, eos=None),
    }
    marked = {}
    notes = {}
    for name, model in made.items():
        told = shown(model, file, eval_data=0.1)
        (marked[name],) = (
            t for row, t in zip(told["rows"], told["marked"], strict=True) if row["source"].endswith(":1")
        )
        notes[name] = " ".join(told["notes"])
    asked = "<|user|>\nq<|assistant|>\n"
    assert marked["marker"] == f"{asked}«a<|user|>»\nr<|assistant|>\n«b<|user|>»"
    assert marked["eos"] == f"{asked}«a»<|user|>\nr<|assistant|>\n«b{END}»"
    assert marked["nothing"] == f"{asked}«a»<|user|>\nr<|assistant|>\n«b»"
    assert "<|user|> is learned as the end of an answer" in notes["marker"]
    assert f"{END} is learned as the end of an answer" in notes["eos"]
    assert "cannot learn where to stop" in notes["nothing"]


def test_a_template_that_takes_parts_only_gets_parts(first):
    parts = NO_SYSTEM.replace(
        "{{ m.content }}",
        "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
    )
    (marked,), _ = first(parts, user("0+1?"), answer("1"))
    assert marked == f"<|user|>\n0+1?{END}\n<|assistant|>\n«1{END}»\n"


def test_a_template_that_leaves_out_what_is_said_is_refused(first):
    with pytest.raises(DataError, match="leaves out what messages say"):
        first(NO_SYSTEM.replace("{{ m.content }}", ""), user("q"), answer("a"))


@pytest.mark.parametrize(
    "pair",
    [
        ("query", "response"),
        ("input", "output"),
        ("question", "response"),
        ("instruction", "response"),
        ("problem", "solution"),
        ("prompt", "response"),
    ],
)
def test_common_pairs_of_columns_are_recognised(pair, shown, chat_model, write_jsonl):
    asked, answered = pair
    file = write_jsonl([{asked: f"{n}+1?", answered: f"It is {n + 1}.", "id": n} for n in range(8)])
    told = shown(chat_model, file, eval_data=0.2)
    assert "It is" in told["marked"][0].partition("«")[2]
    assert any(f"{answered} is read as" in note for note in told["notes"])
    assert "fields of rows that are not used: id" in told["notes"]


def test_columns_say_what_is_meant(shown, chat_model, write_jsonl):
    file = write_jsonl([{"q": f"{n}+1?", "a": f"{n + 1}", "who": "You add."} for n in range(8)])
    source = {"path": str(file), "columns": {"q": "prompt", "a": "completion", "who": "system"}}
    told = shown(chat_model, source, eval_data=0.2)
    assert (
        "<|im_start|>system\nYou add.<|im_end|>" in told["text"]
        if "text" in told
        else told["rows"][0]["text"]
    )
    with pytest.raises(DataError, match=r"columns: \{q: prompt, a: completion\}"):
        shown(chat_model, file)


def test_columns_that_can_be_read_in_two_ways_are_told(shown, chat_model, write_jsonl):
    both = {"query": "q", "response": "r", "problem": "p", "solution": "s"}
    with pytest.raises(DataError, match="can be read in several ways"):
        shown(chat_model, write_jsonl([both]))


@pytest.mark.parametrize("column", ["conversations", "messages", "conversation", "dialogue"])
@pytest.mark.parametrize(
    "keys", [("role", "content", "user", "assistant"), ("from", "value", "human", "gpt")]
)
def test_a_list_of_turns_is_read_by_its_own_keys(column, keys, shown, chat_model, write_jsonl):
    role, content, asks, answers = keys
    talks = [[{role: asks, content: f"{n}?"}, {role: answers, content: f"{n}"}] for n in range(8)]
    told = shown(chat_model, write_jsonl([{column: turns} for turns in talks]))
    assert all(text.endswith(f"assistant\n«{text[17:18]}{END}»\n") for text in told["marked"])


def test_a_row_sets_variables_of_the_template(shown, model_with_template, write_jsonl):
    model = model_with_template(NO_SYSTEM.replace("{% for", "{{ mood }}{% for", 1))
    several = rows(user("q"), answer("a"))
    for row in several:
        row["chat_template_kwargs"] = {"mood": "glad "}
    assert all(text.startswith("glad <|user|>") for text in shown(model, write_jsonl(several))["marked"])


def test_what_will_be_trained_is_counted_at_the_files_length(shown, chat_model, write_jsonl):
    long = [{"prompt": f"{n} " + "fig " * 80, "completion": "yes"} for n in range(90)]
    short = [{"prompt": f"{n}?", "completion": "yes"} for n in range(110)]
    told = shown(chat_model, write_jsonl([*long, *short]), max_seq_len=64, eval_data=0.1)
    assert told["left_out"] == {"without an answer within max_seq_len": 90}
    assert told["trained"] + told["held_out"] == 110
    (lost,) = (note for note in told["notes"] if "would keep 95 %" in note)
    assert lost.startswith("45% of the rows have no answer within 64 tokens")
    kept = int(lost.split("max_seq_len: ")[1].split()[0])
    assert shown(chat_model, write_jsonl([*long, *short]), max_seq_len=kept, eval_data=0.1)["left_out"] == {}


def test_a_file_of_which_nothing_fits_is_refused_with_what_would(shown, chat_model, write_jsonl):
    file = write_jsonl([{"prompt": f"{n} " + "fig " * 80, "completion": "yes"} for n in range(30)])
    with pytest.raises(SpaceFileError, match=r"100% of all rows are left out.*\n.*would keep 95 %"):
        shown(chat_model, file, max_seq_len=64)


def test_a_held_out_set_that_is_too_small_is_told(shown, chat_model, write_jsonl):
    few = shown(chat_model, write_jsonl(rows(user("q"), answer("a"))), eval_data=0.2)["notes"]
    assert any("held-out rows with" in note and "may be chance" in note for note in few)
    many = [{"prompt": f"{n}?", "completion": "one two three " * 20} for n in range(400)]
    assert not any("chance" in note for note in shown(chat_model, write_jsonl(many), eval_data=0.5)["notes"])


def test_a_marked_stretch_is_what_the_mask_of_the_trainer_has(
    shown, model_with_template, make_config, write_jsonl, tmp_path
):
    model = model_with_template(EVERY_TURN)
    file = write_jsonl(rows(user("0+1?"), answer(" 1 é🙂", reasoning_content="hm"), user("r"), answer("2")))
    data = prepare(make_config(model, file, eval_data=0.1), tmp_path / "cache")
    told = shown(model, file, "--rows", "7", eval_data=0.1)
    tokenizer = load_tokenizer(str(model))
    for index, row in enumerate(told["rows"]):
        ids, mask = data.train.row(index)
        assert tokenizer.decode(ids) == row["text"]
        assert (len(ids), int(mask.sum())) == (row["tokens"], row["loss_tokens"])
        assert tokenizer.decode(ids[mask]) == "".join(row["text"][start:end] for start, end in row["loss"])


def test_the_command_prints_colour_or_marks_and_imports_no_torch(chat_model, write_jsonl, tmp_path):
    tree = {
        "name": "a",
        "model_path": str(chat_model),
        "data_path": str(write_jsonl(rows(user("q"), answer("a")))),
    }
    (tmp_path / "a.yaml").write_text(json.dumps(tree))
    script = (
        "import sys; sys.argv = ['sweeper', 'data', 'a.yaml']\n"
        "from sweeper.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'deepspeed', 'ray', 'mlflow', 'transformers', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "«a<|im_end|>»" in done.stdout
    assert "rows trained on" in done.stdout
