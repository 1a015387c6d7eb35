"""Texts by known words: the same tokens at the same places as of the whole text, or the whole text's own."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from data_helpers import CORPUS
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sweeper.data.render import words
from sweeper.data.render.words import Words, cuts_at_spaces, encoded_by

_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"

FAMILIES = {
    "gpt2": [],
    "digits": [" ?[0-9]"],
    "qwen2": [_SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _END],
    "llama3": [_SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _END],
    "o200k": [
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_SHORT}?|{_BEFORE}{_UPPER}+{_LOWER}*{_SHORT}?"
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
        + _END
    ],
    "deepseek": [
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"| ?[\p{P}\p{S}]+[\r\n]*" + _END,
    ],
}
"""The regular expressions by which families of models cut texts; then into bytes, those without the usual
``\\s+`` at the end by GPT-2's."""

PARTS = ["a", "B", "1", "'s", ",", "/", "\n", " ", "\t", "é", "日", "\u0301", "<|end|>", "\x1c", "\xa0"]


def tokenizer(patterns: list[str], **changes: object) -> Tokenizer:
    made = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(one), "isolated") for one in patterns]
    gpt2 = not patterns or not patterns[-1].endswith(_END)
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=bool(changes.get("prefix")), use_regex=gpt2)
    made.pre_tokenizer = pre_tokenizers.Sequence([*splits, in_bytes])
    made.normalizer = changes.get("normalizer", normalizers.NFC())
    made.post_processor = processors.ByteLevel(trim_offsets=True)  # counts the first token's place otherwise
    made.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    made.add_special_tokens([changes.get("added", "<|end|>")])
    return made


def same(encoder: Words, backend: Tokenizer, texts: list[str]) -> bool:
    pairs = zip(encoder.encode(texts), encoded_by(backend, texts), strict=True)
    return all(np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def odd_texts(count: int, longest: int) -> list[str]:
    chosen = random.Random(0)
    parts = [*PARTS, "duck", "eggs", *[" "] * 4]
    return ["".join(chosen.choices(parts, k=chosen.randint(0, longest))) for _ in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_words_have_the_tokens_and_places_that_they_have_in_whole_texts(family):
    backend = tokenizer(FAMILIES[family])
    assert cuts_at_spaces(backend)
    encoder = Words(backend)
    assert same(encoder, backend, list(map("".join, product(PARTS, repeat=3))))  # every neighbourhood
    assert same(encoder, backend, odd_texts(600, 40))
    assert same(encoder, backend, ["", " ", "duck eggs ", " duck", "duck  eggs\n"])
    assert list(encoder.encode([])) == []
    assert encoder._pays


def test_words_that_are_known_are_not_asked_for_again():
    backend = tokenizer(FAMILIES["llama3"])
    encoder = Words(backend)
    encoder.encode(CORPUS * 8)
    known = len(encoder._numbers)
    assert same(encoder, backend, [f"{text} {text}" for text in reversed(CORPUS)])
    assert len(encoder._numbers) - known <= len(CORPUS)  # an end with the beginning behind it


@pytest.mark.parametrize(
    ("patterns", "changes"),
    [
        ([], {"prefix": True}),  # a space before a text's first word
        ([], {"normalizer": normalizers.NFKC()}),  # makes spaces of other characters
        ([], {"added": AddedToken("<|end|>", rstrip=True)}),  # takes the space behind it
        ([], {"added": AddedToken("<| end |>")}),
        ([r"\p{L}+ \p{L}+"], {}),  # two words at once
        ([r"(?<= )\p{L}+" + _END], {}),  # looks back
        ([r"[^\p{L}]+" + _END], {}),  # goes on over a space
    ],
)
def test_tokenizers_that_look_over_spaces_are_asked_for_whole_texts(patterns, changes):
    assert not cuts_at_spaces(tokenizer(patterns, **changes))


def test_a_tokenizer_that_writes_spaces_as_letters_before_it_cuts_is_asked_for_whole_texts():
    backend = tokenizer(FAMILIES["llama3"])
    assert cuts_at_spaces(backend)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.Split(Regex(FAMILIES["llama3"][0]), "isolated"),
        ]
    )
    assert not cuts_at_spaces(backend)


def test_tokenizers_without_words_are_asked_for_whole_texts():
    from tokenizers import decoders

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    assert not cuts_at_spaces(backend)
    backend.pre_tokenizer = None  # type: ignore[assignment]
    assert not cuts_at_spaces(backend)


def test_texts_are_tokenized_whole_where_words_do_not_come_again(monkeypatch):
    monkeypatch.setattr(words, "_MOST_CHARACTERS", 1000)
    backend = tokenizer(FAMILIES["qwen2"])
    encoder = Words(backend)
    for number in range(4):
        assert same(encoder, backend, [f"日本{n}語" * 20 for n in range(20 * number, 20 * number + 20)])
    assert not encoder._pays
    repeating = Words(backend)
    for _ in range(40):
        assert same(repeating, backend, CORPUS * 2)
    assert repeating._pays


def test_texts_are_tokenized_whole_where_the_first_come_out_otherwise():
    backend = tokenizer([])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    assert not cuts_at_spaces(backend)  # its tokens go on over spaces
    encoder = Words(backend)
    assert same(encoder, backend, [CORPUS[0], "How the eggs lay many", "eggs does the duck lay every day"])
    assert not encoder._pays
