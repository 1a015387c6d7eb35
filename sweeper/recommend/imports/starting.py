"""A model and rows -> the text of a space file to start from: a pure function of what is known of them.

Each value stands under a comment with the rule that it follows and the rule's source; what is only assumed
says so.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from sweeper.data import FirstLook
from sweeper.history import Features, SweepOfHistory, lr_ratio, model_features, similarity
from sweeper.space import LogUniform
from sweeper.space.config import rules

if TYPE_CHECKING:
    from sweeper.space import Facts

__all__ = ["Beginning", "Method", "Start", "held_out_share", "start"]

Method = Literal["full", "lora"]

_BYTES_PER_PARAMETER, _USED = 16, 0.7
_ASSUMED_GIB = 16.0
"""Of a GPU whose memory is not known."""
_HELD_OUT, _LEAST_HELD_OUT, _MOST_HELD_OUT = 0.05, 100, 2000
_SIMILAR, _LEAST_PAST, _AROUND = 0.5, 5, 3.0
"""How alike a past sweep must be, how many trials of it were trained to their ends, and the factor by which
the range goes beyond the best of them."""
_TRIALS_PER_VALUE = 4
_BEYOND_THE_SAMPLE = 1.5
"""How much longer than the longest of the sample a row may be."""
_WIDTH = 106


@dataclass(frozen=True, kw_only=True)
class Start:
    """A space file, and what people are told of it."""

    text: str
    found: tuple[str, ...]
    assumed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What is known before the file is written."""

    name: str
    model: str
    data: str
    look: FirstLook
    memory_gib: float | None = None
    """Of one GPU, or of the host where there is none; None where it is not known."""
    past: Sequence[SweepOfHistory] = ()
    """Earlier sweeps of the metric ``eval/loss``."""
    method: Method | None = None
    """None: full fine-tuning where its states fit on one device, else LoRA."""

    @property
    def facts(self) -> Facts:
        return self.look.facts

    @cached_property
    def train_rows(self) -> int:
        """Those that the written share of held-out rows leaves."""
        rows = self.facts.train_rows + self.facts.eval_rows
        return max(math.floor(rows * (1 - held_out_share(rows))), 1)

    @cached_property
    def states_gib(self) -> float | None:
        """What full fine-tuning keeps of weights, gradients and AdamW's states."""
        sizes = self.facts.sizes
        return None if sizes is None else sizes.parameters * _BYTES_PER_PARAMETER / 2**30

    @cached_property
    def is_lora(self) -> bool:
        if self.method is not None:
            return self.method == "lora"
        if self.states_gib is None:
            return True
        return self.states_gib > _USED * (self.memory_gib or _ASSUMED_GIB)


def start(known: Beginning) -> Start:
    """The space file; it is valid for these facts."""
    found, assumed = tuple(_found(known)), tuple(_assumed(known))
    head = [
        f"Written by `sweeper init` for {known.model} and {known.data}. Every line may be changed.",
        "",
        *(f"found:   {one}" for one in found),
        *(f"assumed: {one}" for one in assumed),
        "",
        "sweeper validate FILE    checks it and says what one trial comes to",
        "sweeper run FILE         searches the values that are open: ranges, and lists in brackets",
    ]
    lines = [*_comments(head, ""), ""]
    for section in (_top(known), _training(known), _rest(known)):
        lines += [*section, ""]
    return Start(text="\n".join(lines[:-1]) + "\n", found=found, assumed=assumed)


def held_out_share(rows: int) -> float:
    """5 % of the rows; of few rows more, up to a fifth, so that 100 are held out, and of many no more than
    2,000: each evaluation reads them all."""
    if rows * _HELD_OUT < _LEAST_HELD_OUT:
        return min(0.2, math.ceil(100 * _LEAST_HELD_OUT / max(rows, 1)) / 100)
    return min(_HELD_OUT, max(float(f"{_MOST_HELD_OUT / rows:.1g}"), 1e-6))


def _top(known: Beginning) -> Iterator[str]:
    rows = known.facts.train_rows + known.facts.eval_rows
    yield f"name: {known.name}"
    yield f"model_path: {_quoted(known.model)}"
    yield f"data_path: {_quoted(known.data)}"
    told = f"recognised: {known.look.format}" if known.look.format else "recognised when the rows are read"
    yield f"data_format: auto    # {told}"
    yield from _comments([held_out_share.__doc__ or ""], "")
    yield f"eval_data: {held_out_share(rows):g}"


def _training(known: Beginning) -> Iterator[str]:
    yield "training:"
    yield from _method(known)
    span, why = _lr(known)
    yield from _said(why, f"lr: {{log_uniform: [{span.low:.1e}, {span.high:.1e}]}}")
    yield from _said(_doc(rules.scheduler), "scheduler: [linear, cosine]")
    usual = rules.epochs(known.train_rows)
    yield from _said(_doc(rules.epochs), f"epochs: {[1, 2, 3] if usual == 3 else [1, 2]}")
    batches = _batches(known.train_rows)
    passed = rules.per_device_batch_size(batches[0], dp=1)
    yield from _said(
        f"{_doc(rules.global_batch_size)} Half of it and twice it are searched, too.",
        f"global_batch_size: {batches}",
    )
    yield from _said(
        "Rows of one pass; it changes memory and speed, not what is learned. `sweeper autotune` measures "
        "what is fastest.",
        f"per_device_batch_size: {passed}",
    )
    yield from _said(_doc(rules.warmup_ratio), f"warmup_ratio: {rules.warmup_ratio():g}")
    length, why = _max_seq_len(known)
    yield from _said(why, f"max_seq_len: {length}")


def _method(known: Beginning) -> Iterator[str]:
    has = "" if known.memory_gib is None else f" of {known.memory_gib:.0f} GiB"
    where = f"one GPU{has}" if known.facts.accelerator == "cuda" else f"this machine's memory{has}"
    takes = "" if known.states_gib is None else f", here {known.states_gib:,.2g} GiB"
    source = (
        f"all weights need 16 bytes per parameter{takes} (Rajbhandari et al. 2020, arXiv:1910.02054, "
        "section 3.1)"
    )
    if known.method is not None:
        why = f"asked for by --method; {source}"
    elif known.states_gib is None:
        why = f"assumed, as the model's size is not known; {source}"
    else:
        why = f"{source}, which is {'more' if known.is_lora else 'less'} than {_USED:.0%} of {where}"
    if not known.is_lora:
        yield from _comments([f"Full fine-tuning: {why}."], "  ")
        return
    yield from _said(
        f"LoRA: {why}. Adapters on all linear modules, which Biderman et al. 2024 (arXiv:2405.09673) found "
        "better than on attention alone. Without this line: full fine-tuning.",
        "lora: {rank: {choice: [8, 32]}, alpha: 32, targets: all-linear}",
    )


def _lr(known: Beginning) -> tuple[LogUniform, str]:
    """The range, and where it comes from."""
    facts = known.facts
    practice = rules.lr(facts.hidden_size, lora=known.is_lora, model_type=facts.model_type)
    views = rules.lora_lrs(facts.hidden_size, facts.model_type) if known.is_lora else ()
    source = (
        "3e-4 in tinker-cookbook's sweeps of LoRA, and its formula of the model's family where there is one"
        if known.is_lora
        else "5e-5 x (2000 / hidden_size)^0.781, as in tinker-cookbook, or 2e-5 where the width is unknown"
    )
    rule = f"rule of thumb {practice:g} ({source})"
    best = _past_lrs(known)
    if not best:
        return rules.lr_range(practice, views), f"From a tenth of the {rule} to a hundred times it."
    low, high = min(best) / _AROUND, min(max(best) * _AROUND, rules.HIGHEST_LR)
    return LogUniform(min(low, practice), max(high, practice)), (
        f"From the history: the best quarters of similar sweeps had {min(best):.2g} to {max(best):.2g}, "
        f"each by its ratio to its own rule of thumb; the range is {_AROUND:g} times wider on both sides. "
        f"It holds the {rule}."
    )


def _past_lrs(known: Beginning) -> list[float]:
    """The learning rates of the best quarter of each similar sweep, as rates for this model."""
    now = _features(known)
    found: list[float] = []
    for sweep in _similar(known):
        ended = [one for one in sweep.trials if one.state == "COMPLETE" and _lr_of(one.config)]
        valued = [(one.evaluations[-1][1], _lr_of(one.config)) for one in ended if one.evaluations]
        ranked = sorted((value, lr) for value, lr in valued if value is not None and lr is not None)
        best = ranked[: max(len(ranked) // 4, 1)] if len(ranked) >= _LEAST_PAST else []
        found += [lr * lr_ratio(now, sweep.facts.features) for _, lr in best]
    return found


def _similar(known: Beginning) -> list[SweepOfHistory]:
    now = _features(known)
    return [
        one
        for one in known.past
        if (one.facts.metric, one.facts.mode) == ("eval/loss", "min")
        and one.facts.features.lora in (None, known.is_lora)
        and similarity(now, one.facts.features) >= _SIMILAR
    ]


def _features(known: Beginning) -> Features:
    return model_features(known.model, known.facts, lora=known.is_lora)


def _lr_of(config: object) -> float | None:
    training = config.get("training") if isinstance(config, dict) else None
    lr = training.get("lr") if isinstance(training, dict) else None
    return float(lr) if isinstance(lr, (int, float)) and lr > 0 else None


def _batches(train_rows: int) -> list[int]:
    usual = rules.global_batch_size(train_rows)
    return [size for size in (usual // 2, usual, usual * 2) if 1 <= size <= max(train_rows, 1)]


def _max_seq_len(known: Beginning) -> tuple[int, str]:
    """The power of two that holds every row that was looked at, up to what the rule of thumb gives."""
    facts = known.facts
    most = rules.max_seq_len(facts.max_position_embeddings)
    if facts.train_sample is None or facts.eval_sample is None:
        return most, f"{_doc(rules.max_seq_len)} How long the rows are is not known without the tokenizer."
    longest = max(*facts.train_sample.tokens, *facts.eval_sample.tokens, 8)
    is_exact = facts.train_sample.exact and facts.eval_sample.exact
    needed = longest if is_exact else longest * _BEYOND_THE_SAMPLE
    length = min(2 ** math.ceil(math.log2(needed)), most)
    cut = facts.within(length, "truncate")
    lost = f"; {cut.rows_cut:,} rows are cut to it" if cut.rows_cut else ""
    of = "" if is_exact else " of those looked at, and half as much again for the others"
    said = f"The power of two that holds the longest row{of}: {longest:,} tokens, up to {most:,}{lost}."
    return length, f"{said} {_doc(rules.max_seq_len)}"


def _rest(known: Beginning) -> Iterator[str]:
    searched = 4 + known.is_lora
    yield from _comments(
        ["Left to their rules, which validate shows: ZeRO stage, precision, trials side by side."],
        "",
    )
    yield "objective:"
    yield "  metric: eval/loss    # of the held-out rows, less is better; it needs no generated answers"
    yield ""
    yield "evaluation:"
    yield "  held_out_rows: auto  # as many of them as tell two configurations apart"
    yield ""
    yield "search:"
    yield from _said(
        f"Assumed: {_TRIALS_PER_VALUE} for each of {searched} searched values; the first one is the default. "
        "With time_budget: 8h beside it the sweep ends by the clock.",
        f"trials: {_TRIALS_PER_VALUE * searched}",
    )
    yield "  seed: 0"


def _found(known: Beginning) -> Iterator[str]:
    facts, look = known.facts, known.look
    about = "about " if look.looked_at is not None else ""
    seen = f", by {look.looked_at:,} of them" if look.looked_at is not None else ""
    rows = facts.train_rows + facts.eval_rows
    yield f"rows of the format {look.format or 'that their first one shows'}; {about}{rows:,}{seen}"
    if facts.train_sample is not None:
        ordered = sorted(facts.train_sample.tokens)
        scope = "all rows" if facts.train_sample.exact else f"{len(ordered):,} rows"
        half, longest = ordered[len(ordered) // 2], ordered[-1]
        yield f"lengths of {scope}: half up to {half:,} tokens, the longest {longest:,}"
    yield from facts.data_notes
    if facts.sizes is not None:
        yield (
            f"a model of {facts.sizes.parameters:,} parameters, {facts.model_type or 'of no known family'}, "
            f"width {facts.hidden_size or '?'}, up to {facts.max_position_embeddings or '?'} positions"
        )
    if facts.has_chat_template is not None:
        yield "the model has a chat template" if facts.has_chat_template else "the model has no chat template"
    gpus = f"{facts.devices} GPU{'s' * (facts.devices > 1)}" if facts.accelerator == "cuda" else "no GPU"
    memory = "" if known.memory_gib is None else f", {known.memory_gib:,.0f} GiB each"
    yield f"{gpus}{memory if facts.accelerator == 'cuda' else ''}, {facts.cpus} CPUs"
    if similar := _similar(known):
        trials = sum(len(one.trials) for one in similar)
        names = ", ".join(dict.fromkeys(one.facts.name for one in similar[:3]))
        yield f"{len(similar)} similar sweeps in the history ({names}), {trials} trials"


def _assumed(known: Beginning) -> Iterator[str]:
    facts = known.facts
    if facts.sizes is None:
        yield "the model's files are not here, so its size is not known: LoRA, and widths from no model"
    if facts.train_sample is None:
        yield "the tokenizer is not here, so the lengths of rows are not known"
    if facts.accelerator == "cuda" and known.memory_gib is None:
        yield f"nvidia-smi does not tell the GPU's memory: {_ASSUMED_GIB:g} GiB"
    if known.look.looked_at is not None:
        yield "the number of rows, from a sample of a large file"
    yield "that held-out loss is what you care for (objective), and that this machine trains (resources)"


def _doc(rule: object) -> str:
    """A rule of thumb with its source, as it is documented."""
    return " ".join((rule.__doc__ or "").replace("``", "").split())


def _said(comment: str, line: str) -> list[str]:
    return [*_comments([comment], "  "), f"  {line}"]


def _comments(texts: Iterable[str], indent: str) -> list[str]:
    """Whatever a text holds, no line of it is anything but a comment."""
    lines: list[str] = []
    for text in texts:
        keeps = re.match(r"(found: +|assumed: +|sweeper \w+ FILE +)", text)
        words = f"{keeps[0]}{' '.join(text[keeps.end() :].split())}" if keeps else " ".join(text.split())
        later = " " * (len(keeps[0]) if keeps else 0)
        lines += textwrap.wrap(
            words, _WIDTH - len(indent), subsequent_indent=later, break_on_hyphens=False
        ) or [""]
    return [f"{indent}# {line}".rstrip() for line in lines]


def _quoted(text: str) -> str:
    """As YAML reads it back: plain where nothing else can be meant, else in quotes."""
    is_plain = re.fullmatch(r"([A-Za-z_]|[.]{0,2}/|~)[\w./~+-]*(:[\w./-]+)?", text) and re.search(
        r"[/.:]", text
    )
    return text if is_plain else json.dumps(text, ensure_ascii=False)
