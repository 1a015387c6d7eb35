"""The first rows as the model gets them: what people look at before they train on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sweeper.data.cache import TokenizedSplit
from sweeper.data.model.model_folder import model_folder
from sweeper.data.problems import Problems
from sweeper.data.read.examples import Examples
from sweeper.data.read.formats import Example
from sweeper.data.render.chat_template import ChatTemplate, stop_notes, unused_keys_note
from sweeper.data.render.light_tokenizer import light_tokenizer
from sweeper.data.render.render import Span
from sweeper.data.render.tokenizer import Tokenizer, load_tokenizer
from sweeper.data.render.tokens import encode
from sweeper.data.render.tools import Renderer
from sweeper.data.render.words import Offsets
from sweeper.errors import ModelError
from sweeper.space import Facts, Settings, Space, row_warnings

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["ShownRow", "ShownRows", "show_rows", "shown_examples", "shown_lines", "shown_rows"]


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """One sequence of tokens, as text."""

    text: str
    loss: tuple[Span, ...]
    """Stretches of the text whose tokens carry loss: first character, and the one after the last."""
    tokens: int
    loss_tokens: int
    source: str
    """File and line."""


@dataclass(frozen=True, kw_only=True)
class ShownRows:
    """The first rows of a split, and what became of all."""

    rows: tuple[ShownRow, ...]
    trained: int
    """Rows of one epoch."""
    held_out: int
    looked_at: int | None
    """Rows of large data that all counts are estimated from; None where all were read."""
    left_out: dict[str, int]
    """Why rows are left out -> how many are."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def show_rows(space: Space, examples: Examples, split: str, count: int) -> ShownRows:
    """The first ``count`` sequences of the ``train`` or ``eval`` split that are left at the file's length.

    Needs no torch; transformers only where the tokenizer is not a local ``tokenizer.json``. ``examples`` are
    the space's rows.

    Raises: DataError, ModelError.
    """
    settings, closed = space.settings, space.closed
    tokenizer = _tokenizer(settings)
    renderer = Renderer(tokenizer, learn_template=settings.learn_template_text)
    length, drop = closed["training.max_seq_len"], closed["training.overlong"] == "drop"
    rows: list[ShownRow] = []
    problems = Problems(settings.max_bad_rows)
    for example in examples.train if split == "train" else examples.eval:
        if len(rows) >= count:
            break
        with problems.noting(example.where, row=True):
            rows += shown_rows(example, renderer, tokenizer, length, drop=drop)
    problems.raise_if_any()
    return ShownRows(
        rows=tuple(rows[:count]),
        trained=space.facts.train_rows,
        held_out=space.facts.eval_rows,
        looked_at=space.facts.rows_looked_at,
        left_out=_left_out(examples, space.facts),
        notes=(*_notes(examples, tokenizer, space.facts), *row_warnings(space)),
    )


def shown_rows(
    example: Example, renderer: Renderer, tokenizer: Tokenizer, max_seq_len: int, *, drop: bool = False
) -> Iterator[ShownRow]:
    """The sequences of an example that are left at a length; longer ones are cut, or left out by ``drop``.

    Raises: TemplateProblem.
    """
    sequences = renderer.render(example)
    encoded = encode(sequences, renderer.encoder, max_seq_len)
    for sequence, (row, offsets) in zip(sequences, encoded, strict=True):
        if row.mask.any() and not (drop and row.truncated):
            yield ShownRow(
                text=sequence.text[: int(offsets[:, 1].max())] if row.truncated else sequence.text,
                loss=_stretches(row.mask, offsets),
                tokens=len(row.ids),
                loss_tokens=int(row.mask.sum()),
                source=example.where,
            )


def _stretches(mask: npt.NDArray[np.bool_], offsets: Offsets) -> tuple[Span, ...]:
    """First character and the one after the last of each run of tokens with loss."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    return tuple((int(offsets[first, 0]), int(offsets[first:end, 1].max())) for first, end in runs)


def shown_lines(shown: ShownRows, *, colour: bool) -> Iterator[Text]:
    """The same for a terminal: what carries loss in colour, or between « and » where there is none."""
    from rich.text import Text

    for row in shown.rows:
        yield Text(f"{row.source}: {row.tokens:,} tokens, {row.loss_tokens:,} with loss", style="bold")
        yield _coloured(row) if colour else Text(_marked(row))
        yield Text("")
    left_out = [f"{count:,} left out: {reason}" for reason, count in shown.left_out.items()]
    about = "" if shown.looked_at is None else "about "
    counted = f"{about}{shown.trained:,} rows trained on, {shown.held_out:,} held out"
    yield Text("; ".join([counted, *left_out]))
    for note in shown.notes:
        yield Text(f"note: {note}", style="yellow")


def _tokenizer(settings: Settings) -> Tokenizer:
    try:
        light = light_tokenizer(settings.model_path, settings.chat_template)
    except Exception:  # the real one tells what is wrong
        light = None
    return light or load_tokenizer(
        settings.model_path,
        chat_template=settings.chat_template,
        trust_remote_code=settings.trust_remote_code,
    )


def _left_out(examples: Examples, facts: Facts) -> dict[str, int]:
    counts = {
        "broken": facts.rows_bad,
        "without an answer": facts.rows_without_answer,
        "equal to a held-out row": facts.rows_leaked,
        "left out by weight": examples.counts["rows_left_out_by_weight"],
        "without an answer within max_seq_len": facts.rows_too_long,
    }
    return {reason: count for reason, count in counts.items() if count}


def _notes(examples: Examples, tokenizer: Tokenizer, facts: Facts) -> Sequence[str]:
    if facts.eval_loss_tokens is not None:
        return facts.data_notes
    template = ChatTemplate(tokenizer)  # the sample could not be made, and its notes with it
    keys = unused_keys_note(examples.message_keys, template.source)
    return (*facts.data_notes, *keys, *stop_notes(template))


def _marked(row: ShownRow) -> str:
    text = row.text
    for start, end in reversed(row.loss):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text


def _coloured(row: ShownRow) -> Text:
    from rich.text import Text

    text = Text(row.text, style="dim")
    for start, end in row.loss:
        text.stylize("not dim bold green", start, end)
    return text


def shown_examples(
    settings: Settings, split: TokenizedSplit, count: int
) -> list[tuple[tuple[tuple[str, bool], ...], tuple[int, int]]]:
    """The first tokenized rows as text again: stretches of it, each with whether it carries loss, and how
    many tokens are without and with.

    Raises: ModelError, or what the tokenizers library raises for files that cannot be used.
    """
    if not Path(model_folder(settings.model_path)).exists():
        raise ModelError.of(
            where="model_path",
            value=settings.model_path,
            rule="its tokenizer is not on this machine, and a report asks no hub for it",
            remedy="give a local folder",
        )
    tokenizer = _tokenizer(settings)
    found = []
    for index in range(min(count, split.rows)):
        ids, mask = split.row(index)
        edges = [0, *(np.flatnonzero(np.diff(mask.astype(np.int8))) + 1).tolist(), len(ids)]
        # Decoded from the beginning each time: what a token says may depend on those before it.
        texts = [tokenizer.decode(ids[:end].tolist(), skip_special_tokens=False) for end in edges[1:]]
        starts = [0, *map(len, texts[:-1])]
        parts = tuple(
            (texts[-1][start : len(text)], bool(mask[first]))
            for first, start, text in zip(edges, starts, texts, strict=False)
        )
        with_loss = int(mask.sum())
        found.append((parts, (len(ids) - with_loss, with_loss)))
    return found
