"""Examples -> token ids and the mask of the tokens that carry loss.

A text is tokenized as the model will be asked: the context of an answer by itself, so that no token of it
reaches into the answer. Tokens that overlap what is learned carry loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.formats import Example
from sweeper.data.render.render import Rendered, Span
from sweeper.data.render.tokenizer import Encoder, Tokenizer
from sweeper.data.render.tools import Renderer
from sweeper.data.render.words import Encoded, Offsets

__all__ = ["TokenRow", "encode", "tokenize", "tokenize_with"]

_ROWS_PER_CALL = 256
"""Examples tokenized at once: enough for the tokenizer's threads, few enough to keep memory flat."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Tokens of one sequence of an example."""

    ids: npt.NDArray[np.int32]
    """Shape (T,)."""
    mask: npt.NDArray[np.bool_]
    """Shape (T,): carries loss. Never the first token, which nothing predicts."""
    truncated: bool
    """Whether the sequence was longer than the limit."""
    whole_tokens: int
    """How long it was."""
    first_loss: int
    """Index of its first token with loss, before it was cut; ``whole_tokens`` where there is none."""
    repeated_tokens: int = 0
    """Tokens that an earlier sequence of the example has as well: the context, where the chat template
    rewrites the history and each answer has a sequence of its own."""
    part: int = 0
    """Which sequence of its example it is."""
    adapted: frozenset[str] = frozenset()
    """What was done so that the template takes the example: keys of ``ADAPTATIONS``."""


def tokenize(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_seq_len: int,
    problems: Problems,
    *,
    learn_template: bool = False,
) -> Iterator[tuple[int, TokenRow]]:
    """Yields the index of each example with the tokens of each of its sequences, cut to ``max_seq_len``.

    An example that the chat template fails on is added to ``problems`` and yields nothing.
    """

    def refuse(index: int, found: Unusable) -> None:
        with problems.noting(examples[index].where, row=True):
            raise found

    renderer = Renderer(tokenizer, learn_template=learn_template)
    yield from tokenize_with(renderer, examples, range(len(examples)), max_seq_len, refuse)


def tokenize_with(
    renderer: Renderer,
    examples: Sequence[Example],
    indices: Iterable[int],
    max_seq_len: int,
    refuse: Callable[[int, Unusable], None],
) -> Iterator[tuple[int, TokenRow]]:
    """The same of some of the examples; ``refuse`` is told of one that the chat template fails on."""
    left = iter(indices)
    while some := list(islice(left, _ROWS_PER_CALL)):
        rendered: list[tuple[int, Rendered]] = []
        for index in some:
            try:
                rendered += [(index, sequence) for sequence in renderer.render(examples[index])]
            except Unusable as found:  # noqa: PERF203
                refuse(index, found)
        rows = encode([sequence for _, sequence in rendered], renderer.encoder, max_seq_len)
        for (index, _), (row, _) in zip(rendered, rows, strict=True):
            yield index, row


def encode(
    sequences: Sequence[Rendered], encoder: Encoder, max_seq_len: int
) -> Iterator[tuple[TokenRow, Offsets]]:
    """The tokens of each sequence, none of which reaches over the end of a context, and where they are."""
    encoded = encoder([one.text for one in sequences])
    for sequence, (ids, offsets) in zip(sequences, encoded, strict=True):
        crossed = [cut for cut in sequence.contexts if ((offsets[:, 0] < cut) & (offsets[:, 1] > cut)).any()]
        if crossed:
            ids, offsets = _in_pieces(sequence.text, crossed, encoder)
        yield _row(sequence, ids, offsets, max_seq_len), offsets[:max_seq_len]


def _in_pieces(text: str, cuts: Sequence[int], encoder: Encoder) -> Encoded:
    """The text cut where a context ends and a token would reach over that end."""
    bounds = [0, *cuts, len(text)]
    pieces = list(pairwise(bounds))
    encoded = list(encoder([text[start:end] for start, end in pieces]))
    offsets = [found + start for (start, _), (_, found) in zip(pieces, encoded, strict=True)]
    return np.concatenate([ids for ids, _ in encoded]), np.concatenate(offsets)


def _row(sequence: Rendered, ids: npt.NDArray[np.int32], offsets: Offsets, max_seq_len: int) -> TokenRow:
    mask = _mask(offsets, sequence.spans)
    learned = np.flatnonzero(mask)
    context = sequence.contexts[0] if sequence.part and sequence.contexts else 0
    return TokenRow(
        ids=ids[:max_seq_len],
        mask=mask[:max_seq_len],
        truncated=len(ids) > max_seq_len,
        whole_tokens=len(ids),
        first_loss=int(learned[0]) if len(learned) else len(ids),
        repeated_tokens=int((offsets[:max_seq_len, 0] < context).sum()),
        part=sequence.part,
        adapted=sequence.adapted,
    )


def _mask(offsets: Offsets, spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Which tokens overlap a span.

    Several tokens of one character have its offsets; a token without width counts where it starts.
    """
    mask = np.zeros(len(offsets), dtype=bool)
    firsts, ends = offsets[:, 0], np.maximum(offsets[:, 1], offsets[:, 0] + 1)
    for start, end in spans:
        mask |= (firsts < end) & (ends > start)
    mask[:1] = False
    return mask
