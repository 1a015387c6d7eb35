"""The vocabulary of the quickstart: words by kind, numbers in words, units, days and months.

Everything that the model is pretrained on and asked about is put together from here.
"""

from __future__ import annotations

from typing import NamedTuple

NAMES = tuple(
    "Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karin Leo Mia Nora Oscar Paula Rosa Simon Tina "
    "Victor".split()
)

ANIMALS = tuple(
    "ant bear bee bird cat cow crab crow dog donkey duck eagle fox frog goat hen horse lamb lion monkey "
    "mole owl parrot pig pony rabbit seal snail snake spider swan tiger turtle whale zebra".split()
)
FRUITS = tuple(
    "apple apricot banana cherry fig grape kiwi lemon lime mango melon olive orange peach pear "
    "pineapple plum quince".split()
)
TOOLS = tuple(
    "axe brush drill file fork hammer hook ladder nail needle pan pen rake rope saw spade spoon".split()
)
CLOTHES = tuple(
    "belt boot cap coat dress glove hat jacket shirt shoe skirt sock suit sweater tie vest".split()
)
VEHICLES = tuple(
    "bicycle boat bus car cart ferry plane rocket ship sledge taxi tractor train truck van".split()
)
THINGS = tuple(
    "ball basket bell book bottle bowl box button candle chair clock coin cup desk door drum flag key lamp "
    "letter map mirror paper pillow plate ring stone table ticket tower vase wheel window".split()
)

KINDS: dict[str, tuple[str, ...]] = {
    "animal": ANIMALS,
    "fruit": FRUITS,
    "tool": TOOLS,
    "vehicle": VEHICLES,
}
"""What a word can be asked about: the kind's name and its members."""

NOUNS = ANIMALS + FRUITS + TOOLS + CLOTHES + VEHICLES + THINGS
GOODS = FRUITS + CLOTHES + THINGS
"""Nouns that a person can buy, carry and give away."""
COUNTED = tuple("apple book coin cup key lemon pear shirt".split())
"""The few goods of sums and differences: a small model copies out of a small set."""

COLOURS = tuple("black blue brown green grey pink purple red white yellow".split())
ADJECTIVES = tuple("big clean fine good heavy light little new nice old round small strong warm".split())
PLACES = tuple(
    "bakery beach bridge farm field forest garden harbour house kitchen library market mountain museum park "
    "river school shop station street".split()
)

OPPOSITES: tuple[tuple[str, str], ...] = (
    ("hot", "cold"),
    ("big", "small"),
    ("old", "young"),
    ("long", "short"),
    ("full", "empty"),
    ("light", "heavy"),
    ("fast", "slow"),
    ("hard", "soft"),
    ("wet", "dry"),
    ("open", "closed"),
    ("high", "low"),
    ("loud", "quiet"),
    ("early", "late"),
    ("rich", "poor"),
    ("good", "bad"),
    ("clean", "dirty"),
    ("strong", "weak"),
    ("dark", "bright"),
    ("near", "far"),
    ("wide", "narrow"),
    ("thick", "thin"),
    ("right", "left"),
    ("day", "night"),
    ("up", "down"),
    ("first", "last"),
    ("always", "never"),
)

WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ORDINALS = tuple("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split())

_SMALL = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen".split()
)
_TENS = tuple("zero ten twenty thirty forty fifty sixty seventy eighty ninety".split())


LISTED: tuple[tuple[str, ...], ...] = (COLOURS, _SMALL[1:13])
"""What lists are made of, one kind a list: small sets, for the same reason."""


class UnitPair(NamedTuple):
    """Two units of one quantity: one ``large`` is ``factor`` times one ``small``."""

    large: str
    small: str
    factor: int


UNITS = (
    UnitPair("metre", "centimetre", 100),
    UnitPair("centimetre", "millimetre", 10),
    UnitPair("kilometre", "metre", 1000),
    UnitPair("kilogram", "gram", 1000),
    UnitPair("tonne", "kilogram", 1000),
    UnitPair("litre", "millilitre", 1000),
    UnitPair("hour", "minute", 60),
    UnitPair("minute", "second", 60),
    UnitPair("day", "hour", 24),
    UnitPair("week", "day", 7),
    UnitPair("year", "month", 12),
    UnitPair("century", "year", 100),
    UnitPair("euro", "cent", 100),
)


def number_in_words(number: int) -> str:
    """The English words of 0 to 999: ``342`` is ``three hundred and forty-two``."""
    if not 0 <= number <= 999:
        raise ValueError(f"number_in_words: {number} is not from 0 to 999")
    if number >= 100:
        rest = number % 100
        hundreds = f"{_SMALL[number // 100]} hundred"
        return f"{hundreds} and {number_in_words(rest)}" if rest else hundreds
    if number < len(_SMALL):
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_SMALL[ones]}" if ones else _TENS[tens]


def plural(noun: str) -> str:
    """The regular English plural; the lists above hold no irregular noun."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def counted(count: int, noun: str) -> str:
    """``1 metre``, ``3 metres``."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def with_article(noun: str) -> str:
    """``a pear``, ``an apple``, ``an hour``."""
    sounds_like_vowel = noun == "hour" or (noun[0] in "aeiou" and noun != "euro")
    return f"{'an' if sounds_like_vowel else 'a'} {noun}"


def capitalised(sentence: str) -> str:
    """The sentence with a capital first letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]
