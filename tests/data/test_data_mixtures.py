"""Mixtures of sources: taken from rows that are tokenized once, and the same as from the files."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.data import gather_facts, mixed_folder, prepare, prepared_folder, tokenized
from sweeper.errors import DataError


@pytest.fixture
def config_of(chat_model, make_config, write_jsonl):
    """A configuration on sources of 40, 20 and 10 rows with these weights."""

    def rows(name: str, size: int) -> list[dict[str, str]]:
        return [{"question": f"{name} {n}", "answer": f"{name}{n}"} for n in range(size)]

    sizes = {"a": 40, "b": 20, "c": 10}
    files = [str(write_jsonl(rows(name, size), f"{name}.jsonl")) for name, size in sizes.items()]

    def make(*weights: float):
        sources = [{"path": path, "weight": weight} for path, weight in zip(files, weights, strict=True)]
        return make_config(chat_model, "x", data_path=sources, eval_data=0.2)

    return make


@pytest.mark.parametrize("weights", [(0.5, 1, 2.3), (0, 1, 1), (2, 0, 0.01)])
def test_a_mixture_has_the_rows_of_the_files_in_their_order(config_of, tmp_path, weights):
    base = prepare(config_of(1, 1, 1), tmp_path / "cache").folder
    config = config_of(*weights)
    mixture = tokenized(config, mixed_folder(base, config))
    read = prepare(config, tmp_path / "other")
    assert mixture.content == read.content
    assert mixture.counts == read.counts
    again = tokenized(config, mixed_folder(tmp_path / "gone" / base.name, config))  # without its base
    assert again.content == read.content


def test_the_held_out_rows_are_the_same_in_every_mixture(config_of, tmp_path):
    base = prepare(config_of(1, 1, 1), tmp_path)
    for weights in ((0, 1, 1), (2, 0.5, 0)):
        config = config_of(*weights)
        mixture = tokenized(config, mixed_folder(base.folder, config))
        assert np.array_equal(mixture.eval.ids, base.eval.ids)
        assert mixture.content != base.content


def test_mixtures_have_folders_of_their_own_and_one_has_one(config_of, tmp_path):
    base = prepared_folder(config_of(1, 1, 1), tmp_path)
    folders = {mixed_folder(base, config_of(1, weight, 1)) for weight in (0.0, 0.5, 1.0, 0.5)}
    assert len(folders) == 3 and base not in folders


def test_the_rows_of_each_source_are_counted_before_weights(config_of):
    facts = gather_facts(config_of(0, 2, 1))
    assert sum(facts.source_rows) == 56
    assert facts.train_rows == 2 * facts.source_rows[1] + facts.source_rows[2]


def test_a_source_of_weight_0_is_held_out_from_but_not_trained_on(config_of, tmp_path):
    data = prepare(config_of(0, 1, 1), tmp_path)
    assert data.counts["rows_left_out_by_weight"] == gather_facts(config_of(1, 1, 1)).source_rows[0]
    with pytest.raises(DataError, match="weight 0"):
        prepare(config_of(0, 0, 0), tmp_path)
