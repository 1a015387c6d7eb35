"""Examples -> token ids and the mask of the tokens that carry loss.

A text is tokenized as the model will be asked: the context of an answer by itself, so that no token of it
reaches into the answer. Tokens that overlap what is learned carry loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sweeper.data.problems import Problems
from sweeper.data.read.formats import Example
from sweeper.data.render.render import Rendered, Span, TemplateProblem
from sweeper.data.render.tokenizer import Tokenizer
from sweeper.data.render.tools import Renderer

__all__ = ["TokenRow", "TokenizedText", "encode", "tokenize"]

_ROWS_PER_CALL = 512
"""Examples tokenized at once: enough for the tokenizer's threads, few enough to keep memory flat."""

Places = npt.NDArray[np.int64]
"""Shape (T, 2): first character of each token, and the one after its last."""


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


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A sequence with its text, for people."""

    row: TokenRow
    text: str
    """What the tokens spell: the text cut where the row is."""
    loss: tuple[Span, ...]
    """Stretches of the text whose tokens carry loss."""


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
    renderer = Renderer(tokenizer, learn_template=learn_template)
    for start in range(0, len(examples), _ROWS_PER_CALL):
        chunk = examples[start : start + _ROWS_PER_CALL]
        rendered = [
            (index, part, sequence)
            for index, example in enumerate(chunk, start)
            for part, sequence in enumerate(_rendered(example, renderer, problems))
        ]
        texts = [sequence for _, _, sequence in rendered]
        for (index, part, sequence), (ids, places) in zip(rendered, _encoded(texts, tokenizer), strict=True):
            yield index, _row(sequence, part, ids, places, max_seq_len)


def encode(
    example: Example, renderer: Renderer, tokenizer: Tokenizer, max_seq_len: int
) -> list[TokenizedText]:
    """The sequences of one example with their texts.

    Raises: TemplateProblem.
    """
    sequences = renderer.render(example)
    out = []
    for part, (sequence, (ids, places)) in enumerate(
        zip(sequences, _encoded(sequences, tokenizer), strict=True)
    ):
        row = _row(sequence, part, ids, places, max_seq_len)
        kept = places[: len(row.ids)]
        text = sequence.text if not row.truncated else sequence.text[: int(kept[:, 1].max())]
        out.append(TokenizedText(row, text, _stretches(row.mask, kept)))
    return out


def _rendered(example: Example, renderer: Renderer, problems: Problems) -> tuple[Rendered, ...]:
    try:
        return renderer.render(example)
    except TemplateProblem as problem:
        problems.add_row(where=example.where, value="", rule=problem.rule, remedy=problem.remedy)
        return ()


def _encoded(
    sequences: Sequence[Rendered], tokenizer: Tokenizer
) -> Iterator[tuple[npt.NDArray[np.int32], Places]]:
    """Token ids and places of each text."""
    for sequence, (ids, places) in zip(
        sequences, _encode([one.text for one in sequences], tokenizer), strict=True
    ):
        crossed = [cut for cut in sequence.contexts if ((places[:, 0] < cut) & (places[:, 1] > cut)).any()]
        yield _in_pieces(sequence.text, crossed, tokenizer) if crossed else (ids, places)


def _in_pieces(text: str, cuts: Sequence[int], tokenizer: Tokenizer) -> tuple[npt.NDArray[np.int32], Places]:
    """The text cut where a context ends and a token would reach over that end."""
    bounds = [0, *cuts, len(text)]
    pieces = list(pairwise(bounds))
    encoded = list(_encode([text[start:end] for start, end in pieces], tokenizer))
    places = [found + start for (start, _), (_, found) in zip(pieces, encoded, strict=True)]
    return np.concatenate([ids for ids, _ in encoded]), np.concatenate(places)


def _encode(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[tuple[npt.NDArray[np.int32], Places]]:
    if not texts:
        return
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no advice about the model's length: rows are cut here
    )
    for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        yield np.asarray(ids, dtype=np.int32), np.asarray(offsets, dtype=np.int64).reshape(-1, 2)


def _row(
    sequence: Rendered, part: int, ids: npt.NDArray[np.int32], places: Places, max_seq_len: int
) -> TokenRow:
    mask = _mask(places, sequence.spans)
    learned = np.flatnonzero(mask)
    context = sequence.contexts[0] if part and sequence.contexts else 0
    return TokenRow(
        ids=ids[:max_seq_len],
        mask=mask[:max_seq_len],
        truncated=len(ids) > max_seq_len,
        whole_tokens=len(ids),
        first_loss=int(learned[0]) if len(learned) else len(ids),
        repeated_tokens=int((places[:max_seq_len, 0] < context).sum()),
        part=part,
        adapted=sequence.adapted,
    )


def _mask(places: Places, spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Which tokens overlap a span.

    Several tokens of one character share its place; a token without width counts where it starts.
    """
    mask = np.zeros(len(places), dtype=bool)
    firsts, ends = places[:, 0], np.maximum(places[:, 1], places[:, 0] + 1)
    for start, end in spans:
        mask |= (firsts < end) & (ends > start)
    mask[:1] = False
    return mask


def _stretches(mask: npt.NDArray[np.bool_], places: Places) -> tuple[Span, ...]:
    """First character and the one after the last of each run of tokens with loss."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    return tuple((int(places[first, 0]), int(places[first:end, 1].max())) for first, end in runs)
