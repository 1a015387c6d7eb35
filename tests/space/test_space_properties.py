"""Properties of every space file: what is valid round-trips, what is mutated never ends in a traceback."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st
from space_helpers import FACTS, load_text

from sweeper.errors import SpaceFileError
from sweeper.space import Choice, IntRange, Scheduler, Space, dump_config
from sweeper.space.config.duration import duration_text, parse_duration_s
from sweeper.space.config.fields import leaves

steady = settings(max_examples=60, derandomize=True)


def _range(low: float, high: float) -> st.SearchStrategy[dict[str, Any]]:
    pair = st.lists(st.floats(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    return st.sampled_from(["uniform", "log_uniform"]).flatmap(lambda kind: pair.map(lambda two: {kind: two}))


def _options(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


def _field(values: list[Any], *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    listed = _options(values)
    return st.one_of(st.sampled_from(values), listed, listed.map(lambda all_: {"choice": all_}), *more)


training = st.fixed_dictionaries(
    {},
    optional={
        "lr": _field(
            [1e-5, 3e-4],
            _range(1e-7, 1.0),
            st.sampled_from(
                ["auto", {"range_test": True}, {"log_uniform": [1e-5, 1e-3], "range_test": True}]
            ),
        ),
        "scheduler": _field(list(get_args(Scheduler)), st.just("auto")),
        "warmup_ratio": _field([0, 0.03, 0.1], _range(1e-6, 0.5)),
        "warmup_steps": st.none() | _field([0, 2], st.just({"int": [0, 4]})),
        "decay_ratio": _field([0.1, 0.5], _range(0.01, 0.5), st.just("auto")),
        "epochs": _field([1, 2, 2.5], st.just({"int": [1, 5], "step": 2}), _range(0.5, 3)),
        "gradient_accumulation_steps": _field([1, 2, 4], st.just({"int": [1, 3]})),
        "per_device_batch_size": _field([1, 2, 8], st.just("auto")),
        "weight_decay": _field([0.0, 0.1], _range(1e-8, 1)),
        "packing": st.booleans(),
        "lora": st.just(False)
        | st.fixed_dictionaries({}, optional={"rank": _field([4, 16]), "alpha": _field([16, 32.5])}),
        "seed": _field([0, 1, 2], st.just({"int": [0, 2**31 - 1]})),
    },
)


def _with_condition(tree: dict[str, Any]) -> dict[str, Any]:
    """An open schedule gets an open end under a condition."""
    scheduler = tree.get("training", {}).get("scheduler")
    if not isinstance(scheduler, list):
        return tree
    ratio = {"uniform": [0.01, 0.2], "when": {"scheduler": scheduler[0]}}
    return {**tree, "training": {**tree["training"], "final_lr_ratio": ratio}}


def one_line(**sizes: int) -> st.SearchStrategy[str]:
    """Texts without control characters, which a space file refuses."""
    return st.text(st.characters(exclude_categories=["Cs", "Cc"]), **sizes)


sources = one_line(min_size=1, max_size=5) | st.fixed_dictionaries(
    {"path": one_line(min_size=1, max_size=5)},
    optional={
        "weight": st.floats(0.001, 1000) | st.integers(1, 9),
        "format": st.sampled_from(["auto", "alpaca", "text"]),
    },
)
spaces = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "model_path": one_line(min_size=1, max_size=20),
        "data_path": one_line(min_size=1, max_size=20) | sources | st.lists(sources, min_size=1, max_size=3),
        "resources": st.just({"price_per_gpu_hour": 2.5}),
    },
    optional={
        "training": training,
        "deepspeed": st.fixed_dictionaries(
            {},
            optional={
                "zero_stage": _field([1, 2, 3], st.just("auto")),
                "offload": _field(["none", "optimizer"]),
                "gradient_checkpointing": _field([True, False]),
            },
        ),
        "parallel": st.fixed_dictionaries({"dp": _field([1, 2, 4])}),
        "search": st.fixed_dictionaries(
            {},
            optional={
                "trials": st.integers(1, 99),
                "time_budget": st.sampled_from(["90s", "2h", "1h30m", "1.5d"]),
                "cost_budget": st.floats(0.01, 1e6) | st.integers(1, 99),
            },
        ),
    },
).map(_with_condition)


def _load(text: str) -> Space:
    with tempfile.TemporaryDirectory() as folder:
        return load_text(Path(folder), text, head="")


def _drawn(data: st.DataObject, space: Space) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for one in space.dimensions:
        form = one.open_value
        if isinstance(form, Choice):
            values[one.name] = data.draw(st.sampled_from(form.options))
        elif isinstance(form, IntRange):
            values[one.name] = form.low + form.step * data.draw(
                st.integers(0, (form.high - form.low) // form.step)
            )
        else:
            values[one.name] = data.draw(st.floats(form.low, form.high))
    return values


@steady
@given(tree=spaces, data=st.data())
def test_a_valid_space_loads_and_its_resolved_file_asks_the_same(tree, data):
    space = _load(dump_config(tree))
    again = _load(dump_config(space.resolved()))
    assert again == space
    values = _drawn(data, space)
    assert again.close(values) == space.close(values)


@steady
@given(tree=spaces, data=st.data())
def test_a_closed_configuration_loads_again_with_nothing_open(tree, data):
    space = _load(dump_config(tree))
    config = space.close(_drawn(data, space))
    again = _load(dump_config(config))
    assert again.dimensions == ()
    assert again.close({}) == config
    training = config.training
    split = training.per_device_batch_size * training.gradient_accumulation_steps * config.parallel.dp
    assert training.global_batch_size == split


@steady
@given(tree=spaces)
def test_the_default_values_are_inside_what_is_open(tree):
    space = _load(dump_config(tree))
    defaults = space.default_values()
    assert space.close({}) == space.close(defaults)
    for one in space.dimensions:
        form = one.open_value
        if isinstance(form, Choice):
            assert one.default in form.options
        else:
            assert form.low <= one.default <= form.high


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just("auto"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choice",
                    "uniform",
                    "log_uniform",
                    "int",
                    "step",
                    "when",
                    "range_test",
                    "lr",
                    "rank",
                    "path",
                    "weight",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@steady
@given(tree=spaces, path=st.sampled_from([*leaves(), "training", "training.lora", "search", "x"]), value=junk)
def test_a_mutated_space_loads_or_says_what_is_wrong(tree, path, value):
    *sections, last = path.split(".")
    place = tree
    for section in sections:
        inner = place.get(section)
        place[section] = dict(inner) if isinstance(inner, dict) else {}
        place = place[section]
    place[last] = value
    try:
        space = _load(dump_config(tree))
        space.close({})
    except SpaceFileError as error:
        assert all(one.where and one.rule and one.remedy for one in error.problems)


@steady
@given(text=st.text(max_size=60) | st.text(alphabet="ab:[]{},&*!|>-?'\"\n\t #%@1.e", max_size=60))
def test_no_text_ends_in_a_traceback(text):
    try:
        _load(text)
    except SpaceFileError as error:
        assert str(error)


@steady
@given(key=st.sampled_from([*leaves(), "lr", "seed", "x", ""]), value=st.text(max_size=12))
def test_no_override_ends_in_a_traceback(key, value):
    with tempfile.TemporaryDirectory() as folder:
        try:
            load_text(Path(folder), "", overrides=[f"{key}={value}"], facts=FACTS)
        except SpaceFileError as error:
            assert str(error)


@steady
@given(st.floats(1e-9, 1e11))
def test_a_span_of_time_is_written_and_read_without_loss(seconds):
    assert parse_duration_s(duration_text(seconds)) == seconds
