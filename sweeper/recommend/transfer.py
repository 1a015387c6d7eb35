"""From small to large: how far a sweep with a proxy is, and how well the proxy's order held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeper.recommend.ranking import tokens_seen
from sweeper.search import Transfer, TrialRecord, begun, searched, transfer_of
from sweeper.space import proxy_lr_factor, proxy_words

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = ["phase_line", "phase_of", "transfer_line", "transfer_tree"]


def phase_of(space: Space, trials: Sequence[TrialRecord]) -> str:
    """``proxy`` while the search is on it, then ``real``; empty in a sweep without a proxy."""
    if not space.settings.search.proxy.is_wanted:
        return ""
    return "real" if any(not one.is_proxy for one in trials) else "proxy"


def phase_line(space: Space, trials: Sequence[TrialRecord]) -> str | None:
    """Which phase it is, with numbers; None in a sweep without a proxy."""
    phase = phase_of(space, trials)
    if not phase:
        return None
    words, wanted = proxy_words(space), space.settings.search.trials
    if phase == "proxy":
        begun_of = f"{begun(trials)} of {wanted} trials"
        return f"phase proxy: {begun_of} on {words}; the best then train on the real thing"
    real = [one for one in trials if one.real_of is not None]
    ended = sum(one.state.is_finished for one in real)
    return f"phase real: {ended} of {len(real)} begun have ended, after {begun(trials)} trials on {words}"


def transfer_line(space: Space, trials: Sequence[TrialRecord]) -> str | None:
    """How well the proxy's order held, in one sentence; None where less than two can be compared."""
    found = transfer_of(space, trials)
    if found is None or found.tau is None:
        return None
    values = ", ".join(
        f"trial {one.proxy} {one.proxy_value:.4g} and then {one.value:.4g} (trial {one.real})"
        for one in found.pairs
    )
    metric = space.settings.objective.metric
    return f"the proxy's order: {_order(found)}; {_best(found)}; {metric} of {values}"


def transfer_tree(space: Space, trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """The same for programs; None in a sweep without a proxy.

    ``{"phase", "rows" or "model_path", "lr_factor", "trials", "tokens", "real_tokens", "kendall_tau",
    "same_order", "compared", "place_of_best", "pairs": [{"proxy_trial", "trial", "proxy_value", "value"}]}``.
    ``tokens`` are those trained on the proxy; ``lr_factor`` is what learning rates are multiplied with there.
    """
    found, proxy = transfer_of(space, trials), space.settings.search.proxy
    if found is None:
        return None
    small = {"rows": proxy.rows} if proxy.rows is not None else {"model_path": proxy.model_path}
    return {
        "phase": phase_of(space, trials),
        **small,
        "lr_factor": proxy_lr_factor(space),
        "trials": len(searched(trials)),
        "tokens": sum(tokens_seen(one) for one in trials if one.is_proxy),
        "real_tokens": sum(tokens_seen(one) for one in trials if not one.is_proxy),
        "kendall_tau": found.tau,
        "same_order": found.same_order,
        "compared": found.compared,
        "place_of_best": found.place_of_best,
        "pairs": [
            {
                "proxy_trial": one.proxy,
                "trial": one.real,
                "proxy_value": one.proxy_value,
                "value": one.value,
            }
            for one in found.pairs
        ],
    }


def _order(found: Transfer) -> str:
    pairs = "pair" if found.compared == 1 else "pairs"
    return (
        f"{found.same_order} of {found.compared} {pairs} of those that trained on the real thing stand in "
        f"the same order there (Kendall's tau {found.tau:.2g})"
    )


def _best(found: Transfer) -> str:
    if found.place_of_best is None:
        return "its best has no value on the real thing"
    if found.place_of_best == 1:
        return "its best stayed the best"
    return f"its best has place {found.place_of_best} of {len(found.pairs)}"
