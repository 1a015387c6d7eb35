"""Texts -> tokens by words whose tokens are known already: a tokenizer is asked once for each word.

A word here is a space and what follows it up to the next space that stands behind something else than white
space. The tokenizers of most models (GPT-2, Llama 3, Qwen, DeepSeek, gpt-oss) cut texts there in any case,
before they look for tokens: the tokens of a text are then those of its words, one word after another. Which
tokenizers do so is told from what they are made of, and the first texts are compared with what comes of them
when they are tokenized whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Encoded", "Offsets", "Words", "cuts_at_spaces", "encoded_by"]

Offsets = npt.NDArray[np.int64]
"""Shape (T, 2): first character of each token, and the one after its last."""
Encoded = tuple[npt.NDArray[np.int32], Offsets]
"""Token ids, and where in the text they are."""

_Key = str | tuple[str]
"""A word without its space; in a tuple the beginning of a text, which has no space before it."""

_Flat = tuple[npt.NDArray[np.int32], Offsets, npt.NDArray[np.int64]]
"""Ids and offsets of texts, one after another, and how many tokens each has."""
_Flags = npt.NDArray[np.bool_]

_BEFORE = "a"
"""What words are tokenized behind: some tokenizers count the places of a text's first token otherwise."""
_JOINED = re.compile(r"(?:^|\s) ")
"""A space at which no word begins."""
_WORD = re.compile(r"\s*\S+(?:[^\S ]\s*\S*)*|\s+")
_COMPARED = 16
"""So many texts are tokenized whole as well."""
_CHARACTERS_PER_WORD = 45
"""A word by itself takes the library as long as so many characters inside of a text."""
_MOST_CHARACTERS = 2**21
"""Of known words, about 50 MiB with their tokens; then they are forgotten."""

_ITEM = r"(?:[!-Z^-\U0010ffff]|\\p\{[LMNPS][a-z]?\}|\\[^\w\s])"
_NO_SPACE = rf"(?:\\p\{{[LMNPS][a-z]?\}}|\[\^\\s{_ITEM}+\]|\[(?!\^){_ITEM}+\])(?:[+*]\+?|\{{1,3\}}\+?)?"
_FIRST = rf"(?: \?|\[\^\\r\\n{_ITEM}+\]\?\+?)?"
_CONTRACTION = r"(?:'?\(\?i:['a-z|\[\]]+\)|'[a-z]+)"
_WHITE = r"\\s\*\[\\r\\n\]\+?|\\s\+\(\?!\\S\)|\\s\+"
_ALTERNATIVE = (
    rf"(?:{_FIRST}(?:{_NO_SPACE})+(?:\[\\r\\n/?\]\*\+?)?(?:{_CONTRACTION}\?)?|{_CONTRACTION}|{_WHITE})"
)
_AT_SPACES = re.compile(rf"{_ALTERNATIVE}(?:\|{_ALTERNATIVE})*")
"""Regular expressions of which no match goes on over a space behind something that is no white space: only
what a match begins with can be a space, and only white space is looked past."""


def cuts_at_spaces(backend: Any) -> bool:
    """Whether a tokenizer of the tokenizers library makes of each word the same tokens wherever it stands."""
    if type(backend.model).__name__ != "BPE" or backend.model.dropout:
        return False
    try:
        stages = list(_stages(_state(backend.pre_tokenizer), "pretokenizers"))
        normalizers = [one["type"] for one in _stages(_state(backend.normalizer), "normalizers")]
    except Exception:  # a part that is written in Python has no state
        return False
    return (
        all(name == "NFC" for name in normalizers)
        and all(map(_is_local, stages))
        and any(map(_cuts_everywhere, stages))
        and all(stage["type"] != "ByteLevel" for stage in stages[:-1])  # which writes spaces as letters
        and not any(map(_reaches_over, backend.get_added_tokens_decoder().values()))
        and len(backend.encode(_BEFORE, add_special_tokens=False).ids) == 1
    )


def _state(part: Any) -> dict[str, Any]:
    return json.loads(part.__getstate__()) if part is not None else {}


def _stages(state: dict[str, Any], name: str) -> Iterable[dict[str, Any]]:
    if state.get("type") == "Sequence":
        for one in state[name]:
            yield from _stages(one, name)
    elif state:
        yield state


def _is_local(stage: dict[str, Any]) -> bool:
    if stage["type"] == "ByteLevel":
        return not stage["add_prefix_space"]
    if stage["type"] == "Split":
        pattern = stage["pattern"].get("Regex", "")
        return stage["behavior"] in ("Isolated", "Removed") and _AT_SPACES.fullmatch(pattern) is not None
    return bool(stage["type"] == "Digits")


def _cuts_everywhere(stage: dict[str, Any]) -> bool:
    if stage["type"] == "Split":
        return str(stage["pattern"].get("Regex", "")).endswith(r"|\s+")
    return stage["type"] == "ByteLevel" and bool(stage["use_regex"])


def _reaches_over(token: Any) -> bool:
    """Whether an added token takes spaces beside it, looks at its neighbours, or holds the end of a word."""
    return bool(token.lstrip or token.rstrip or token.single_word or re.search(r"\S ", token.content))


def encoded_by(backend: Any, texts: Sequence[str]) -> Iterator[Encoded]:
    """What the library itself makes of texts; no token is added."""
    ids, offsets, counts = _flat(backend.encode_batch(texts, add_special_tokens=False))
    bounds = [0, *np.cumsum(counts).tolist()]
    for start, end in pairwise(bounds):
        yield ids[start:end], offsets[start:end]


class Words:
    """Tokenizes texts with one tokenizer for which ``cuts_at_spaces`` holds, and remembers their words."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._unproven, self._pays = _COMPARED, True
        self._asked, self._learned = 0, 0
        self._forget()

    def _forget(self) -> None:
        self._asked, self._learned = 0, 0
        self._numbers: dict[_Key, int] = {}
        self._ids = np.zeros(0, dtype=np.int32)
        self._offsets = np.zeros((0, 2), dtype=np.int64)
        self._counts, self._firsts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> Iterable[Encoded]:
        """Token ids of each text, and where in it they are."""
        if not (texts and self._pays):
            return encoded_by(self._backend, texts)
        found = self._of_words(texts)
        if self._unproven:
            compared = texts[: self._unproven]
            self._unproven -= len(compared)
            if not all(map(_are_equal, found, encoded_by(self._backend, compared))):
                self._pays = False
                return encoded_by(self._backend, texts)
        if self._learned > _MOST_CHARACTERS:
            self._pays = 2 * self._learned < self._asked  # else most words are new each time, as in Chinese
            self._forget()
        return found

    def _of_words(self, texts: Sequence[str]) -> list[Encoded]:
        some = _Words.of(texts)
        numbers = self._known(some)
        counts = self._counts[numbers]
        ends = np.cumsum(counts)
        tokens = _stretches(self._firsts[numbers], counts)
        ids = self._ids[tokens]
        offsets = self._offsets[tokens] + np.repeat(some.starts, counts)[:, None]
        bounds = [0, *ends[some.edges[1:] - 1].tolist()]
        return [(ids[start:end], offsets[start:end]) for start, end in pairwise(bounds)]

    def _known(self, some: _Words) -> npt.NDArray[np.int64]:
        """The number of each word, which is learned where it is new."""
        numbers = self._found(some.keys)
        is_new = numbers < 0
        self._asked += int(some.lengths.sum())
        if not is_new.any():
            return numbers
        news = np.add.reduceat(is_new, some.edges[:-1], dtype=np.int64)
        whole = np.flatnonzero(news * _CHARACTERS_PER_WORD > list(map(len, some.texts)))
        if len(whole):
            self._learn_from_texts(some, whole, is_new)
        left = dict.fromkeys(some.keys[index] for index in np.flatnonzero(is_new).tolist())
        self._learn_alone([key for key in left if key not in self._numbers])
        return self._found(some.keys)

    def _found(self, keys: Sequence[_Key]) -> npt.NDArray[np.int64]:
        return np.fromiter(map(self._numbers.get, keys, repeat(-1)), np.int64, len(keys))

    def _learn_from_texts(self, some: _Words, whole: npt.NDArray[np.int64], is_new: _Flags) -> None:
        """The new words of texts that are tokenized whole, since so many of their words are new."""
        ids, offsets, counts = self._asked_for([some.texts[index] for index in whole.tolist()])
        of_text = np.repeat(whole, counts)
        # With a place between texts: a token of white space alone may stand at the very end of one.
        gaps = np.arange(len(some.texts)) + np.cumsum([0, *map(len, some.texts[:-1])])
        begins = some.starts + np.repeat(gaps, np.diff(some.edges))
        word = np.searchsorted(begins, offsets[:, 0] + gaps[of_text], side="right") - 1
        counts = np.bincount(word, minlength=len(some.keys))
        is_whole = np.zeros(len(some.texts), dtype=bool)
        is_whole[whole] = True
        wanted = np.flatnonzero(is_new & np.repeat(is_whole, np.diff(some.edges)))
        once = {some.keys[index]: index for index in wanted.tolist()}
        picked = np.fromiter(once.values(), np.int64, len(once))
        tokens = _stretches((np.cumsum(counts) - counts)[picked], counts[picked])
        places = offsets[tokens] - np.repeat(some.starts[picked], counts[picked])[:, None]
        self._add(list(once), some.lengths[picked], ids[tokens], places, counts[picked])

    def _learn_alone(self, keys: Sequence[_Key]) -> None:
        if not keys:
            return
        behind = np.array([isinstance(key, str) for key in keys], dtype=np.int64)
        ids, offsets, counts = self._asked_for(list(map(_in_place, keys)))
        firsts = np.cumsum(counts) - counts
        kept = np.ones(len(ids), dtype=bool)
        kept[firsts[behind == 1]] = False  # what they stand behind
        counts -= behind
        lengths = np.array([len(key) + 1 if isinstance(key, str) else len(key[0]) for key in keys])
        places = offsets[kept] - np.repeat(behind * len(_BEFORE), counts)[:, None]
        self._add(keys, lengths, ids[kept], places, counts)

    def _asked_for(self, texts: Sequence[str]) -> _Flat:
        return _flat(self._backend.encode_batch(texts, add_special_tokens=False))

    def _add(
        self,
        keys: Sequence[_Key],
        lengths: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int32],
        offsets: Offsets,
        counts: npt.NDArray[np.int64],
    ) -> None:
        self._numbers.update(zip(keys, range(len(self._counts), len(self._counts) + len(keys)), strict=True))
        self._firsts = np.append(self._firsts, len(self._ids) + np.cumsum(counts) - counts)
        self._counts = np.append(self._counts, counts)
        self._ids = np.append(self._ids, ids)
        self._offsets = np.concatenate([self._offsets, offsets])
        self._learned += int(lengths.sum())


@dataclass(frozen=True)
class _Words:
    """The words of some texts, one text after another."""

    texts: Sequence[str]
    keys: Sequence[_Key]
    lengths: npt.NDArray[np.int64]
    """Characters of each word, with its space."""
    starts: npt.NDArray[np.int64]
    """Where in its text each begins."""
    edges: npt.NDArray[np.int64]
    """Shape (texts + 1,): the words of text i are ``edges[i]`` to ``edges[i + 1]``."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Words:
        found = list(map(_words, texts))
        keys = list(chain.from_iterable(found))
        edges = np.cumsum([0, *map(len, found)])
        lengths = np.fromiter(map(len, keys), np.int64, len(keys)) + 1
        lengths[edges[:-1]] = [len(key[0]) for key, *_ in found]
        texts_start = np.cumsum([0, *map(len, texts[:-1])])
        starts = np.cumsum(lengths) - lengths - np.repeat(texts_start, np.diff(edges))
        return cls(texts, keys, lengths, starts, edges)


def _stretches(firsts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The indices from each of the firsts on, as many as its count says."""
    ends = np.cumsum(counts)
    return np.repeat(firsts - ends + counts, counts) + np.arange(counts.sum())


def _flat(encoded: Sequence[Any]) -> _Flat:
    counts = np.fromiter(map(len, encoded), np.int64, len(encoded))
    total = int(counts.sum())
    ids = np.fromiter(chain.from_iterable(one.ids for one in encoded), np.int32, total)
    places = chain.from_iterable(chain.from_iterable(one.offsets for one in encoded))
    return ids, np.fromiter(places, np.int64, 2 * total).reshape(-1, 2), counts


def _words(text: str) -> list[_Key]:
    if _JOINED.search(text):
        first, *rest = _WORD.findall(text)
        return [(first,), *(one[1:] for one in rest)]
    pieces = text.split(" ")
    return [(pieces[0],), *pieces[1:]]


def _in_place(key: _Key) -> str:
    return key[0] if isinstance(key, tuple) else f"{_BEFORE} {key}"


def _are_equal(one: Encoded, other: Encoded) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
