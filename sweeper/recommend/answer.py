"""The answer of a sweep: a space file with nothing open, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweeperError
from sweeper.recommend.advice import advice_lines
from sweeper.recommend.certainty import confirmation_tree
from sweeper.recommend.constraints import constraints_tree
from sweeper.recommend.ends import extended_ranges
from sweeper.recommend.preference import Preference, evidence, preferred
from sweeper.recommend.ranking import decisive_epoch, default_record, tokens_seen
from sweeper.recommend.transfer import transfer_tree
from sweeper.redact import is_struck
from sweeper.search import TrialRecord, TrialState, searched
from sweeper.space import (
    Config,
    dump_config,
    read_config,
    row_warnings,
    system_config_of,
    with_system_config,
    without_proxy,
    write_whole,
)

if TYPE_CHECKING:
    from sweeper.space import Space, SweepFolder

__all__ = ["answer", "write_answer"]


def write_answer(
    space: Space,
    trials: Sequence[TrialRecord],
    folder: SweepFolder,
    versions: Mapping[str, str],
    fingerprints: Mapping[str, str],
) -> Path:
    """Writes ``best-config.yaml`` and returns its path.

    With two objectives it is that of the preference ``loss``, see ``answer``.

    Its ``provenance`` says which trial of which sweep reached what: ``value`` and ``default_value`` are
    the final objectives of the chosen trial's own run and of the rules of thumb (null where those were not
    trained to their end). Training the file again gives ``value``, under that trial's seed. With
    ``objective.at: best`` ``value_tokens`` and ``value_epoch`` say at which of its evaluations the trial
    reached it. ``trials`` and ``tokens`` are the evidence, all trials of the search and all training tokens,
    those under other seeds among them; ``feasible`` and ``constraints`` whether the trial keeps to what was
    asked for, and by how much; ``confirmation`` is what these say, see ``confirmation_tree``; ``proxy`` is
    how well a proxy's order held, see ``transfer_tree``; ``extended`` has the ranges that grew while the
    sweep ran; ``model_notes`` is what was found out about the model when it was loaded.

    Raises:
        SweeperError: no trial was trained to its end, so that there is no answer.
    """
    write_whole(folder.best_config, answer(space, trials, versions, fingerprints, "loss"))
    return folder.best_config


def answer(
    space: Space,
    trials: Sequence[TrialRecord],
    versions: Mapping[str, str],
    fingerprints: Mapping[str, str],
    prefer: Preference,
) -> str:
    """The text of an answer by a preference. With two objectives ``provenance`` says by which, what the
    second objective came to, and what the front is that the trial was chosen from. The most important advice
    stands above, as comments.

    Raises what ``write_answer`` raises.
    """
    best = preferred(space, trials, prefer)
    if best is None:
        raise SweeperError(_no_answer(trials))
    provenance = _provenance(space, trials, best) | evidence(space, trials, prefer)
    provenance |= {"versions": dict(versions), "fingerprints": dict(fingerprints)}
    config = _without_password(without_proxy(_as_trained(space, best)))
    said = "".join(f"# {line}\n" for line in advice_lines(space, trials))
    return said + dump_config(config.model_copy(update={"provenance": provenance}))


def _as_trained(space: Space, record: TrialRecord) -> Config:
    """What the trial ran with in the end: where it did not fit into memory, its batch is split otherwise."""
    config, ran = space.close(record.values), record.attributes.get("config")
    if ran is None:
        return config
    return with_system_config(config, **asdict(system_config_of(read_config(ran))))


def _provenance(space: Space, trials: Sequence[TrialRecord], best: TrialRecord) -> dict[str, Any]:
    default = default_record(trials)
    reached = default is not None and default.state is TrialState.COMPLETE
    judged: dict[str, Any] = {}
    if space.settings.objective.at == "best" and best.decisive is not None:
        judged = {"value_tokens": best.decisive.tokens, "value_epoch": decisive_epoch(best)}
    return {
        "sweep": space.name,
        "trial": best.number,
        "metric": space.settings.objective.metric,
        "value": best.value,
        **judged,
        **constraints_tree(space, best),
        "default_value": default.value if default is not None and reached else None,
        "trials": len(searched(trials)),
        "tokens": sum(tokens_seen(one) for one in trials),
        **({"extended": grown} if (grown := extended_ranges(space, trials)) else {}),
        **({"proxy": tree} if (tree := transfer_tree(space, trials)) else {}),
        **({"confirmation": found} if (found := confirmation_tree(space, trials)) else {}),
        **({"warnings": warnings} if (warnings := row_warnings(space)) else {}),
        **({"model_notes": notes} if (notes := best.attributes.get("model_notes")) else {}),
    }


def _no_answer(trials: Sequence[TrialRecord]) -> str:
    if not trials:
        return "there is no best configuration: no trial was started"
    said = f"there is no best configuration: none of {len(searched(trials))} trials was trained to its end"
    reasons: dict[str, list[int]] = {}
    for one in trials:
        reasons.setdefault(f"{one.state.value}: {one.reason or 'no reason was noted'}", []).append(one.number)
    lines = [f"  {reason} (trial {', '.join(map(str, numbers))})" for reason, numbers in reasons.items()]
    return "\n".join([said, *lines])


def _without_password(config: Config) -> Config:
    """An answer is passed on to others: an address whose password was struck out is of no use to them."""
    tracking, search = config.tracking, config.search
    if tracking.mlflow_uri and is_struck(tracking.mlflow_uri):
        tracking = tracking.model_copy(update={"mlflow_uri": None})
    if search.storage and is_struck(search.storage):
        search = search.model_copy(update={"storage": None})
    return config.model_copy(update={"tracking": tracking, "search": search})
