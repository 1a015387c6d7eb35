"""Which run a state is of: the same settings and the same rows, whatever version wrote it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import create_model

from sweeper.data import fingerprint, prepare
from sweeper.data.render import tokens
from sweeper.errors import UserError
from sweeper.space import Training
from sweeper.training.checkpoint import run_hash

ROWS = "f" * 32
OF_DD1F124 = {
    "2d94f1a855d0d0a4": {},
    "cd2b2df9d96a5c98": {
        "zero_stage": 2,
        "config": {"zero_optimization": {"reduce_bucket_size": 1000}},
        "lora": {"rank": 4, "targets": ["q_proj", "v_proj"]},
        "dp": 2,
    },
}
"""Hashes that version dd1f124 has computed of settings that differ from ``quick_config`` in these."""


@pytest.mark.parametrize(("written", "changes"), OF_DD1F124.items(), ids=list(OF_DD1F124))
def test_the_hash_of_old_states_is_computed_today_as_well(quick_config, written, changes):
    config = quick_config(**changes).model_copy(update={"model_path": "models/m"})
    assert run_hash(config, ROWS) == written


def test_a_new_field_leaves_old_states_valid_until_it_is_used_and_a_changed_value_does_not(quick_config):
    config = quick_config()
    wider = create_model("Wider", __base__=Training, label_smoothing=(float, 0.0))

    def hash_with(**changes: object) -> str:
        training = wider(**{**config.training.model_dump(), **changes})
        return run_hash(config.model_copy(update={"training": training}), ROWS)

    assert hash_with() == run_hash(config, ROWS)
    assert len({hash_with(), hash_with(label_smoothing=0.1), hash_with(weight_decay=0.1)}) == 3


@pytest.fixture
def begun(rank, job_of, quick_config, tmp_path):
    """A run with a state, as format_version 1 wrote it or as today's does."""

    def make(*, first_format: bool):
        job, folder = job_of(quick_config()), tmp_path / "checkpoint"
        job = replace(job, cache_dir=tmp_path, data_dir=prepare(job.config, tmp_path).folder)
        rank.prepare(job)
        rank.advance()
        rank.checkpoint(folder)
        if first_format:
            place = json.loads((folder / "progress.json").read_text())
            place["run"] = run_hash(job.config, job.data_dir.name)
            (folder / "progress.json").write_text(json.dumps(place))
            meta = json.loads((job.data_dir / "meta.json").read_text())
            meta.pop("content", None)
            (job.data_dir / "meta.json").write_text(json.dumps(meta))
        rank.stop()
        return replace(job, resume_from=folder)

    return make


def made_again(job, monkeypatch):
    """The job with rows that another version of this package makes of the same data."""
    monkeypatch.setattr(fingerprint, "_CACHE_VERSION", "another")
    again = prepare(job.config, job.cache_dir)
    assert again.folder != job.data_dir
    return replace(job, data_dir=again.folder)


@pytest.mark.parametrize("first_format", [True, False])
def test_a_run_goes_on_where_another_version_makes_the_same_rows(rank, begun, monkeypatch, first_format):
    job = begun(first_format=first_format)
    for one in (job, made_again(job, monkeypatch)):
        rank.prepare(one)
        assert rank.advance().step > 4
    rank.stop()


@pytest.mark.parametrize("first_format", [True, False])
def test_a_run_is_refused_with_the_difference_where_another_version_makes_other_rows(
    rank, begun, monkeypatch, first_format
):
    job, mask = begun(first_format=first_format), tokens._mask

    def without_the_end(*arguments):
        whole = mask(*arguments)
        whole[whole.nonzero()[0][-1]] = False
        return whole

    monkeypatch.setattr(tokens, "_mask", without_the_end)
    with pytest.raises(UserError, match=r"of 64 training rows 64 carry loss on other tokens; of 16 held-out"):
        rank.prepare(made_again(job, monkeypatch))
    rank.stop()


def test_a_state_with_keys_of_a_newer_version_is_taken_up(rank, begun):
    job = begun(first_format=False)
    file = job.resume_from / "progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"newer": 1}))
    rank.prepare(job)
    rank.stop()
