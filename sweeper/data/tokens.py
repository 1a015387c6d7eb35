"""Examples -> token ids and the mask of the tokens that carry loss.

The text of an example is tokenized once; tokens that overlap a span of it that is learned carry loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.formats import Example
from sweeper.data.problems import Problems
from sweeper.data.render import Rendered, Span, TemplateProblem
from sweeper.data.tokenizer import Tokenizer
from sweeper.data.tools import Renderer

__all__ = ["TokenRow", "tokenize"]

_ROWS_PER_CALL = 512
"""Rows tokenized at once: enough for the tokenizer's threads, few enough to keep memory flat."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Tokens of one example."""

    ids: npt.NDArray[np.int32]
    """Shape (T,)."""
    mask: npt.NDArray[np.bool_]
    """Shape (T,): carries loss. Never the first token, which nothing predicts."""
    truncated: bool
    """Whether the row was longer than the limit."""
    tools_as_text: bool = False
    """Whether its tools were written as plain messages."""


def tokenize(
    examples: Sequence[Example], tokenizer: Tokenizer, max_seq_len: int, problems: Problems
) -> Iterator[tuple[int, TokenRow]]:
    """Yields the index and the tokens of each example, cut to ``max_seq_len`` tokens.

    An example that the chat template fails on is added to ``problems`` and yields nothing.
    """
    renderer = Renderer(tokenizer)
    for start in range(0, len(examples), _ROWS_PER_CALL):
        chunk = enumerate(examples[start : start + _ROWS_PER_CALL], start)
        texts = [(index, _rendered(example, renderer, problems)) for index, example in chunk]
        rendered = {index: text for index, text in texts if text is not None}
        yield from zip(rendered, _tokens([*rendered.values()], tokenizer, max_seq_len), strict=True)


def _rendered(example: Example, renderer: Renderer, problems: Problems) -> Rendered | None:
    try:
        return renderer.render(example)
    except TemplateProblem as problem:
        problems.add_row(where=example.where, value="", rule=problem.rule, remedy=problem.remedy)
        return None


def _tokens(rendered: Sequence[Rendered], tokenizer: Tokenizer, max_seq_len: int) -> Iterator[TokenRow]:
    if not rendered:
        return
    encoded = tokenizer(
        [row.text for row in rendered],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no advice about the model's length: rows are cut below
    )
    for row, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = np.asarray(offsets[:max_seq_len], dtype=np.int64).reshape(-1, 2)
        yield TokenRow(
            ids=np.asarray(ids[:max_seq_len], dtype=np.int32),
            mask=_mask(places, row.spans),
            truncated=len(ids) > max_seq_len,
            tools_as_text=row.tools_as_text,
        )


def _mask(places: npt.NDArray[np.int64], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Which tokens overlap a span. ``places`` has shape (T, 2): first character and the one after the last.

    Several tokens of one character share its place; a token without width counts where it starts.
    """
    mask = np.zeros(len(places), dtype=bool)
    firsts, ends = places[:, 0], np.maximum(places[:, 1], places[:, 0] + 1)
    for start, end in spans:
        mask |= (firsts < end) & (ends > start)
    mask[:1] = False
    return mask
