"""``search.proxy``: what the small run of a search is, and which ones are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from space_helpers import FACTS, load_text, problems_of

from sweeper.data import gather_facts, model_folder
from sweeper.errors import ModelError
from sweeper.space import (
    Config,
    ProxyModel,
    json_schema,
    load_space,
    make_plan,
    proxied,
    proxy_lr_factor,
    proxy_warnings,
    real_config,
    rule_of_thumb_lr,
    search_config,
)

OPEN = "training: {lr: [1.0e-4, 1.0e-3], epochs: [1, 2]}\n"
SMALL = ProxyModel(hidden_size=192, layers=12, max_position_embeddings=4096, same_tokens=True)


def with_model(tmp_path, small: ProxyModel = SMALL, text: str = OPEN, **facts):
    text += "search: {proxy: {model_path: small}}\n"
    return load_text(tmp_path, text, facts=replace(FACTS, proxy_model=small, **facts))


def test_a_share_of_the_rows_is_a_share_of_each_source_and_all_else_stays_but_the_lr(tmp_path):
    head = "name: t\nmodel_path: m\ndata_path: [{path: a, weight: 2}, b]\n"
    space = load_text(tmp_path, OPEN + "search: {proxy: {rows: 0.2}}\n", head=head)
    real, small = (of(space, {"lr": 1e-3, "epochs": 2}) for of in (real_config, search_config))
    assert [(one.path, one.weight) for one in small.sources] == [("a", 0.4), ("b", 0.2)]
    assert small.training.lr == pytest.approx(1e-3 * 5**0.32)
    moved = real.training.model_copy(update={"lr": small.training.lr})
    assert small == real.model_copy(update={"data_path": small.data_path, "training": moved})
    assert small.training.global_batch_size == real.training.global_batch_size
    assert proxied(space).facts.train_rows == 400 and proxied(space).facts.eval_rows == 100


def test_a_smaller_model_trains_with_the_lr_moved_by_the_rule_for_both_widths(tmp_path):
    space = with_model(tmp_path)
    real, small = (of(space, {"lr": 1e-3, "epochs": 2}) for of in (real_config, search_config))
    ratio = rule_of_thumb_lr(192, lora=False) / rule_of_thumb_lr(576, lora=False)
    assert small.training.lr == pytest.approx(1e-3 * ratio) and ratio > 2
    assert (real.model_path, small.model_path) == ("m", "small") and small.data_path == real.data_path
    assert proxied(space).facts.hidden_size == 192 and proxied(space).facts.train_rows == 2000
    lora = "training: {lr: [1.0e-4, 1.0e-3], lora: {rank: 8}}\n"
    adapters = with_model(tmp_path, replace(SMALL, model_type="llama"), lora, model_type="llama")
    widths = [rule_of_thumb_lr(width, lora=True, model_type="llama") for width in (192, 576)]
    assert proxy_lr_factor(adapters) == pytest.approx(widths[0] / widths[1])


def test_neither_trial_asks_for_the_proxy_again(tmp_path):
    space = with_model(tmp_path)
    for config in (real_config(space, {}), search_config(space, {}), proxied(space).close({})):
        assert not config.search.proxy.is_wanted
    assert isinstance(proxied(space).close({}), Config)


def test_without_a_proxy_nothing_changes_and_a_stored_space_names_none(tmp_path):
    space = load_text(tmp_path, OPEN)
    assert proxied(space) is space and search_config(space, {}) == space.close({})
    assert "proxy" not in space.resolved()["search"]
    assert "then" not in dict(make_plan(space).summary())


def test_a_stored_space_asks_for_the_same_proxy(tmp_path):
    space = load_text(tmp_path, OPEN + "search: {proxy: {rows: 0.25, top: 2}}\n")
    assert space.resolved()["search"]["proxy"] == {"rows": 0.25, "top": 2}


def test_the_plan_says_what_is_searched_on_and_what_comes_then(tmp_path):
    space = load_text(tmp_path, OPEN + "search: {trials: 10, proxy: {rows: 0.2, top: 2}}\n")
    plain = dict(make_plan(load_text(tmp_path, OPEN + "search: {trials: 5}\n")).summary())
    summary = dict(make_plan(space).summary())
    assert summary["search"].startswith("10 trials on 20 % of the rows, sampler")
    assert summary["then"].startswith("the best 2 and the rules of thumb on the real thing; the proxy trains")
    # Ten fifths and three whole ones are five.
    assert summary["whole sweep"] == plain["whole sweep"]


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("{rows: 0}", "rows must be a share of the rows: a number > 0 and < 1"),
        ("{rows: 1}", "rows must be a share of the rows: a number > 0 and < 1"),
        ("{rows: -0.5}", "rows must be a share of the rows: a number > 0 and < 1"),
        ("{rows: many}", "rows must be a share of the rows: a number > 0 and < 1"),
        ("{rows: 0.2, top: 0}", "top must be a whole number >= 1"),
        ("{rows: 0.2, model_path: small}", "a proxy has fewer rows or a smaller model"),
        ("{top: 3}", "there is no proxy"),
        ("{row: 0.2}", "is not a key"),
        ("0.2", "search.proxy is a section"),
        ("{model_path: m}", "is the model itself"),
        ("{rows: 0.001}", "on the proxy, 2 training rows x 2 epochs do not fill one global batch"),
    ],
)
def test_what_is_no_proxy_is_refused_with_its_place(tmp_path, written, rule):
    problems = problems_of(tmp_path, OPEN + f"search: {{proxy: {written}}}\n")
    assert len(problems) == 1, problems
    assert rule in problems[0].rule.replace("unknown key", "is not a key"), problems[0]
    assert problems[0].where.startswith("s.yaml:5:") and problems[0].remedy


def test_two_objectives_are_refused_beside_a_proxy(tmp_path):
    text = OPEN + "objective: [eval/loss, cost]\nsearch: {proxy: {rows: 0.2}}\n"
    assert ["with search.proxy few" in one.rule for one in problems_of(tmp_path, text)] == [True]


@pytest.mark.parametrize(
    ("small", "facts", "rule"),
    [
        ({"model_type": "qwen2"}, {"model_type": "llama"}, "of the architecture qwen2, the model of llama"),
        ({"max_position_embeddings": 512}, {}, "on the proxy, the model tells at most 512 positions apart"),
    ],
)
def test_a_model_that_is_no_smaller_sibling_is_refused(tmp_path, small, facts, rule):
    text = OPEN + "search: {proxy: {model_path: small}}\n"
    known = replace(FACTS, proxy_model=replace(SMALL, **small), **facts)
    assert [rule in one.rule for one in problems_of(tmp_path, text, facts=known)] == [True]


def test_another_vocabulary_or_tokenizer_and_an_unknown_width_are_warnings(tmp_path):
    def said(small: ProxyModel, **facts) -> str:
        return " ".join(proxy_warnings(with_model(tmp_path, small, **facts)))

    assert said(SMALL) == ""
    assert "has another tokenizer" in said(replace(SMALL, same_tokens=False))
    assert "a vocabulary of 100" in said(replace(SMALL, vocab_size=100), vocab_size=200)
    unknown = replace(SMALL, hidden_size=None)
    assert "taken over as they are" in said(unknown)
    assert proxy_lr_factor(with_model(tmp_path, unknown)) == 1.0


def test_editors_know_the_section():
    tree = {"name": "t", "model_path": "m", "data_path": "d"}
    valid = Draft202012Validator(json_schema()).is_valid
    assert valid({**tree, "search": {"proxy": {"rows": 0.2, "top": 3}}})
    assert not valid({**tree, "search": {"proxy": {"rows": 1.5}}})


@pytest.fixture
def sibling(tmp_path):
    """The packaged model with another config: as far as is looked at before it is loaded."""
    folder = shutil.copytree(model_folder("builtin:quickstart"), tmp_path / "small")

    def change(**config):
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
        return folder

    return change


def space_with(tmp_path, write_space, folder):
    file = write_space(tmp_path, search={"trials": 2, "proxy": {"model_path": str(folder)}})
    return load_space(file, gather=gather_facts)


def test_what_is_known_of_a_smaller_model_is_read_from_its_folder(tmp_path, write_space, sibling):
    folder = sibling(hidden_size=64)
    (folder / "model.safetensors").unlink()
    space = space_with(tmp_path, write_space, folder)
    model = space.facts.proxy_model
    assert model.hidden_size == 64 and model.same_tokens is True and model.model_type == "llama"
    assert proxy_warnings(space) == []
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = tokenizer["added_tokens"][:-1]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "has another tokenizer" in proxy_warnings(space_with(tmp_path, write_space, folder))[0]


def test_a_model_of_the_same_size_and_one_that_is_not_there_are_refused(tmp_path, write_space, sibling):
    with pytest.raises(Exception, match="no fewer than the model's"):
        space_with(tmp_path, write_space, sibling())
    with pytest.raises(ModelError, match="there is no such folder") as caught:
        space_with(tmp_path, write_space, tmp_path / "nowhere")
    assert [one.where for one in caught.value.problems] == ["search.proxy.model_path"]
