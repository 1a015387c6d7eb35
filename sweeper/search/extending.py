"""Ranges that grow while a sweep runs (``search.extend``), because its best trial lies at their ends.

All of it is told from the space as the file has it and from the records: a trial that was asked for in wider
ranges than those of the file has them in its note ``ranges``, committed before it starts. So a resumed sweep
asks in the ranges in which the one before it would have asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpaceFileError
from sweeper.search.edges import edges
from sweeper.search.records import TrialRecord, TrialState, searched
from sweeper.search.samplers import SamplerName, check_sampler, propose
from sweeper.space import Choice, Extend, Side, as_tree, from_tree, is_sound, wider, with_open_values

if TYPE_CHECKING:
    from sweeper.search.auto import AutoSampler, Past
    from sweeper.space import Dimension, OpenValue, Space, Values

__all__ = ["RANGES", "in_database", "propose_and_extend", "space_in_force", "space_to_ask"]

RANGES = "ranges"
"""Note of a trial: dimension name -> open value as in a space file, of those that have grown."""


def propose_and_extend(
    space: Space,
    records: Sequence[TrialRecord],
    sampler: SamplerName,
    past: Past | None = None,
    auto: AutoSampler | None = None,
) -> tuple[Values | None, dict[str, Any]]:
    """The values of the next new trial, as ``propose`` gives them, and its note ``ranges``: empty where they
    come from the space as the file has it."""
    asked = space_to_ask(space, records)
    values = propose(asked, records, sampler, past and past.within(asked), auto)
    if values is None and (grown := space_to_ask(space, records, is_exhausted=True)) != asked:
        asked, values = grown, propose(grown, records, sampler, past and past.within(grown), auto)
    return values, _ranges(space, asked)


def space_in_force(space: Space, records: Sequence[TrialRecord]) -> Space:
    """The space in which the newest trial was asked for: the file's, or with ranges that have grown."""
    if space.settings.search.extension is None:
        return space
    newest = next((one for one in reversed(searched(records)) if one.attributes.get(RANGES)), None)
    if newest is None:
        return space
    return with_open_values(
        space, {name: from_tree(tree) for name, tree in newest.attributes[RANGES].items()}
    )


def space_to_ask(space: Space, records: Sequence[TrialRecord], *, is_exhausted: bool = False) -> Space:
    """The space in which the next trial is asked for: as ``space_in_force``, or with what has to grow now.

    Ranges grow with ``search.extend`` where the best trial lies at their ends, ``times`` times at most, and
    not before ``1 / (times + 1)`` of the trials were asked for in the ranges as they are; or as soon as each
    configuration of a discrete space was asked (``is_exhausted``) and none runs.
    """
    now, extend = space_in_force(space, records), space.settings.search.extension
    if extend is None or not _is_due(space, records, extend, is_exhausted):
        return now
    for edge in edges(now, records):
        grown = with_open_values(now, {edge.name: edge.wider})
        if _is_usable(grown):
            now = grown
    return now


def in_database(space: Space, ranges: Mapping[str, Any]) -> dict[str, OpenValue]:
    """Dimension name -> its open value as the ledger's database describes it to others, for a trial with this
    note. A database wants to know from the beginning what a list may ever hold."""
    grown = {name: from_tree(tree) for name, tree in ranges.items()}
    lists = {one.name: _longest(space, one) for one in space.dimensions if isinstance(one.open_value, Choice)}
    return {one.name: one.open_value for one in space.dimensions} | grown | lists


def _ranges(space: Space, asked: Space) -> dict[str, Any]:
    return {
        one.name: as_tree(one.open_value)
        for begun, one in zip(space.dimensions, asked.dimensions, strict=True)
        if begun.open_value != one.open_value
    }


def _longest(space: Space, dimension: Dimension) -> OpenValue:
    """A list with every number that it may ever come to have."""
    extend = space.settings.search.extension
    if extend is None:
        return dimension.open_value
    sides: tuple[Side, Side] = "lower", "upper"
    for side in sides:
        for _ in range(extend.times):
            grown = wider(dimension, side, extend.factor)
            dimension = dimension if grown is None else replace(dimension, open_value=grown)
    return dimension.open_value


def _is_due(space: Space, records: Sequence[TrialRecord], extend: Extend, is_exhausted: bool) -> bool:
    noted = [record.attributes.get(RANGES) or {} for record in records]
    grown = [number for number in range(1, len(noted)) if noted[number] != noted[number - 1]]
    if len(grown) >= extend.times:
        return False
    if is_exhausted:
        return all(record.state is not TrialState.RUNNING for record in records)
    since = len(records) - (grown[-1] if grown else 0)
    return since * (extend.times + 1) >= space.settings.search.trials


def _is_usable(space: Space) -> bool:
    try:
        check_sampler(space)
    except SpaceFileError:  # a grid that has become too large
        return False
    return is_sound(space)
