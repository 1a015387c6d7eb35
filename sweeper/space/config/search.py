"""What a sweep looks for, and how: the sections ``objective`` and ``search``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from sweeper.space.config.section import NonEmptyStr, Section, Words

Metric = (
    Literal["eval/loss", "eval/perplexity", "eval/token_accuracy", "eval/exact_match"]
    | Annotated[str, Field(pattern=r"^eval/[A-Za-z_]\w*$")]
)
_METRICS = (
    "eval/loss, eval/perplexity, eval/token_accuracy, eval/exact_match or eval/<a function of your own>"
)


Cost = Literal["cost", "gpu_seconds", "peak_memory", "tokens"]
_ALSO = f"gpu_seconds, peak_memory, tokens, cost (which is gpu_seconds), or a metric: {_METRICS}"


_CONSTRAINTS = 'a mapping of metrics to bounds such as {eval/retention_increase: "<= 0.1"}'


def _plain_cost(also: str | None) -> str | None:
    return "gpu_seconds" if also == "cost" else also


class Objective(Section):
    """What is better. ``[metric, also]`` is short for a section with these two."""

    metric: Annotated[Metric, Words(_METRICS)] = "eval/loss"
    """A metric of every evaluation, or one of generated answers."""
    mode: Literal["min", "max"] = "min"
    at: Literal["end", "best"] = "end"
    """Which evaluation of a trial is its value, and of which the model is kept: the last one, or the best
    one (the earliest of equal ones), as with ``load_best_model_at_end`` in transformers."""
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 8
    """Held-out evaluations of one trial, evenly spaced over its training tokens, the last at its end."""
    also: Annotated[Cost | Metric | None, Words(_ALSO), AfterValidator(_plain_cost)] = None
    """A second objective: the sweep looks for the Pareto front of both. What a trial costs, less is better:
    ``gpu_seconds``, its own seconds times its GPUs (its ranks, on a CPU); ``peak_memory``, the measured GiB
    of a rank; ``tokens``, those trained on. Or another metric. None: there is one objective."""
    constraints: Annotated[dict[str, str] | None, Words(_CONSTRAINTS)] = None
    """What the chosen trial has to keep to, such as ``{eval/retention_increase: "<= 0.1"}``: logged metrics,
    at the evaluation that a trial is judged by, and their bounds. None: nothing."""


class Extend(Section):
    """How far the range of an open value may grow, where the best trial lies at its end."""

    model_config = ConfigDict(strict=True)

    factor: Annotated[float, Field(gt=1, le=1000)] = 10.0
    """A log range grows by so much on that side; a linear one by its width, a list of numbers by one."""
    times: Annotated[int, Field(ge=1, le=10)] = 2
    """How often in a sweep, at the earliest after 1 / (times + 1) of its trials each."""


_EXTEND = "true, false, or a mapping of factor (above 1, at most 1000) and times (1 to 10)"
_AT_LEAST_TWO = Words("a whole number >= 2")


class Confirm(Section):
    """The best trials are trained again under other seeds when the search is over, and the winner is chosen
    by these runs. Both or none of the two."""

    top: Annotated[Annotated[int, Field(ge=2)] | None, _AT_LEAST_TWO] = None
    """So many of the best complete trials. None: the choice goes by the trials' own runs."""
    seeds: Annotated[Annotated[int, Field(ge=2)] | None, _AT_LEAST_TWO] = None
    """So many runs of each at most, under training.seed + 1, + 2 and so on; a trial that is told apart from
    the leader gets no further ones."""


_SHARE = Words("a share of the rows: a number > 0 and < 1, such as 0.2")


class Proxy(Section):
    """The search tries its configurations on a small run: on a share of the rows, or with a smaller model.
    The best few, and the rules of thumb, then train on the real thing, and of these alone one is chosen."""

    rows: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, _SHARE] = None
    """This share of the training rows of each source, always the same ones; the held-out rows stay."""
    model_path: Annotated[NonEmptyStr | None, Words("a model's folder, .gguf file or hub id")] = None
    """A smaller model of the same family, with the same tokenizer."""
    top: Annotated[Annotated[int, Field(ge=1)] | None, Words("a whole number >= 1")] = None
    """So many of the best train on the real thing. None: 3."""

    @property
    def is_wanted(self) -> bool:
        return self.rows is not None or self.model_path is not None

    @property
    def finalists(self) -> int:
        """``top``, or what it is where nothing is said; the rules of thumb come on top of them."""
        return 3 if self.top is None else self.top


class Search(Section):
    """Which configurations are tried."""

    sampler: Literal["auto", "tpe", "gp", "cmaes", "random", "grid", "qmc"] = "auto"
    stopper: Literal["auto", "asha", "hyperband", "median", "none"] = "auto"
    trials: Annotated[int, Field(ge=1)] = 16
    extend: Annotated[bool | Extend, Words(_EXTEND)] = False
    """Whether ranges grow while the sweep runs, where its best trial lies at an end of what was searched;
    ``{factor: 10, times: 2}`` says how far and how often, which is what ``true`` means. Never beyond what a
    field allows. The number of trials stays."""
    paused_gib: Annotated[float, Field(ge=0)] | None = None
    """What the states of paused trials may take of the disk together; beyond it those with the least chance
    end for good. None: half of what the disk would have free without them."""
    share: bool = True
    """Whether a trial takes over what an earlier one has already trained to the last bit: all of it, or its
    first steps."""
    share_gib: Annotated[float, Field(ge=0)] | None = None
    """What the states that trials leave for later ones may take of the disk together. None: half of what the
    disk would have free without them."""
    time_budget_s: Annotated[float, Field(gt=0)] | None = None
    """Written ``time_budget: 2h`` in a space file. From the command's beginning to the last trial's end, over
    all drivers of the sweep; kept within 5 %: a trial that cannot end in time is not begun, and one that
    turns out too slow for it is stopped."""
    cost_budget: Annotated[float, Field(gt=0)] | None = None
    """Money that the sweep may cost, in the currency of ``resources.price_per_gpu_hour``; kept like
    ``time_budget``."""
    confirm: Confirm = Confirm()
    proxy: Proxy = Proxy()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    history: Annotated[NonEmptyStr | Literal[False], Words("a path, or false")] | None = None
    """The file of what all sweeps found: ``sampler: auto`` and ``stopper: auto`` go by it, each trial is
    added to it; ``false``: none. None: ``$SWEEPER_HISTORY`` (a path, or ``off``), else
    ``~/.local/share/sweeper/history.sqlite3``."""
    storage: NonEmptyStr | None = None
    """The ledger's database: ``postgresql://user@host/database``, ``mysql+pymysql://...`` or
    ``sqlite:///path``; none: a file in the sweep's folder."""

    @property
    def extension(self) -> Extend | None:
        """How ranges grow, however it was written; None where they do not."""
        return Extend() if self.extend is True else self.extend or None
