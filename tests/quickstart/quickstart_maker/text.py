"""The pretraining text: plain statements about numbers, units, words, days and small events.

It holds the vocabulary and the facts that the instruction set asks for, and nothing in the form of
an instruction and its answer: that form is what fine-tuning adds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from quickstart_maker import words
from quickstart_maker.words import capitalised, counted, number_in_words, plural, with_article

__all__ = ["documents"]

Wordings = tuple[str, ...]
"""Of one sentence, of which one is drawn."""
Sentence = Callable[[random.Random], str | Wordings]


def _event(rng: random.Random) -> str:
    name, noun, place = rng.choice(words.NAMES), plural(rng.choice(words.GOODS)), rng.choice(words.PLACES)
    verb = rng.choice(("bought", "found", "saw", "sold", "counted", "painted", "lost", "carried"))
    day = rng.choice(words.WEEKDAYS)
    what = f"{number_in_words(rng.randint(2, 20))} {noun}"
    event = rng.choice(
        (
            f"{name} {verb} {what} at the {place} on {day}.",
            f"On {day} {name} went to the {place} and {verb} {what}.",
            f"It was on {day} that {name} {verb} {what} near the {place}.",
        )
    )
    told = rng.choice(
        (f"So {name} {verb} {what}.", f"The {place} had {what} on {day}.", f"On {day} it was {name}.")
    )
    return f"{event} {told}"


def _giving(rng: random.Random) -> Wordings:
    giver, taker = rng.sample(words.NAMES, 2)
    noun = plural(rng.choice(words.COUNTED))
    count = rng.randint(4, 20)
    gone = rng.randint(1, count - 2)
    had, given, left = (number_in_words(number) for number in (count, gone, count - gone))
    return (
        f"{giver} had {had} {noun}, gave {given} {noun} to {taker} and kept {left} {noun}.",
        f"{giver} had {had} {noun} and lost {given}, so {giver} had {left} {noun} left.",
        f"{taker} got {given} {noun} from {giver}, who had {had} {noun} and kept {left} {noun}.",
    )


def _scene(rng: random.Random) -> Wordings:
    animal, place = rng.choice(words.ANIMALS), rng.choice(words.PLACES)
    look = f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.COLOURS)}"
    noun = rng.choice(words.THINGS + words.VEHICLES + words.TOOLS)
    return (
        f"The {look} {animal} sleeps behind the {noun} near the {place}.",
        f"There is {with_article(rng.choice(words.ADJECTIVES))} {noun} near the {place}, and it is "
        f"{rng.choice(words.COLOURS)}.",
        f"Near the {place} {with_article(animal)} looks at the {look} {noun}.",
    )


def _talk(rng: random.Random) -> str:
    asker, other = rng.sample(words.NAMES, 2)
    noun = rng.choice(words.NOUNS)
    thing = rng.choice(
        (
            f"how many {plural(noun)} there are at the {rng.choice(words.PLACES)}",
            "which day is today, and what month is it",
            f"who has the {noun}, when it was found, and where it is now",
            "which of these numbers is the largest and which is the smallest",
            f"what the word {noun} means and how to spell it backwards",
            "how to write a name in capital letters",
            "how to sort a list of words in order of the alphabet, and how to reverse the list",
            "how to put these numbers in order, from small to large",
            f"how to keep only the {plural(rng.choice(tuple(words.KINDS)))} of a list",
        )
    )
    verb = rng.choice(("asks", "tells", "shows"))
    return f"{asker} {verb} {other} {thing}."


def _wonder(rng: random.Random) -> Wordings:
    """Words that begin a question or a request, used in statements."""
    name, noun = rng.choice(words.NAMES), rng.choice(words.NOUNS)
    acts = rng.sample(("write", "sort", "keep", "put", "count", "reverse", "spell"), 3)
    return (
        f"{capitalised(acts[0])}, {acts[1]} and {acts[2]} are words for work, and {noun} is not.",
        f"Which {noun} it is, what it has and where it was found, {name} does not say.",
        f"How much is the sum, and how many {plural(noun)} are there, asks {name}.",
        f"What is backwards and what is the opposite of it, {name} knows.",
        f"Today {name} loses the {noun} and does not see the sign on the door.",
        f"The sign says that the {rng.choice(words.PLACES)} is open today.",
        f"In reverse or in order, the sum of the numbers is the same, says {name}.",
    )


def _counting(rng: random.Random) -> str:
    start, length = rng.randint(0, 95), rng.randint(4, 8)
    numbers = range(start, start + length)
    spoken = [number_in_words(number) for number in numbers]
    if rng.random() < 0.5:
        return capitalised(", ".join(spoken)) + "."
    return ", ".join(str(number) for number in numbers) + "."


def _written(rng: random.Random) -> Wordings:
    number = rng.choice((rng.randint(0, 99), rng.randint(0, 999)))
    spoken = number_in_words(number)
    return (f"The number {number} is written {spoken}.", f"{capitalised(spoken)} is {number}.")


def _sum(rng: random.Random) -> Wordings:
    one, two = rng.randint(1, 20), rng.randint(1, 20)
    first, second, total = (number_in_words(number) for number in (one, two, one + two))
    return (
        f"{capitalised(first)} and {second} make {total}.",
        f"{capitalised(first)} plus {second} is {total}.",
        f"{capitalised(total)} minus {first} is {second}.",
        f"{capitalised(total)} less {first} leaves {second}.",
    )


def _compared(rng: random.Random) -> Wordings:
    low, high = sorted(rng.sample(range(100), 2))
    third = rng.randint(0, 99)
    return (
        f"{low} is smaller than {high}.",
        f"{high} is larger than {low}.",
        f"{low} comes before {high}.",
        "From small to large: " + ", ".join(str(n) for n in sorted({low, high, third})) + ".",
    )


def _unit(rng: random.Random) -> str | Wordings:
    pair = rng.choice(words.UNITS)
    if rng.random() < 0.2:
        return f"{capitalised(with_article(pair.large))} has {pair.factor} {plural(pair.small)}."
    count = rng.randint(1, 20)
    large, small = counted(count, pair.large), counted(count * pair.factor, pair.small)
    return (f"{large} are the same as {small}.", f"{small} make {large}.")


def _weekday(rng: random.Random) -> Wordings:
    start, ahead = rng.randrange(7), rng.randint(1, 9)
    day, later = words.WEEKDAYS[start], words.WEEKDAYS[(start + ahead) % 7]
    spoken = f"{number_in_words(ahead)} {'day' if ahead == 1 else 'days'}"
    return (
        f"{capitalised(spoken)} after {day} is a {later}.",
        f"{day} is {spoken} before {later}.",
        f"If it is {day} now, it will be {later} after {spoken}.",
        f"After {day} comes {words.WEEKDAYS[(start + 1) % 7]}.",
    )


def _month(rng: random.Random) -> Wordings:
    place, ahead = rng.randrange(12), rng.randint(1, 8)
    month, later = words.MONTHS[place], words.MONTHS[(place + ahead) % 12]
    spoken = f"{number_in_words(ahead)} {'month' if ahead == 1 else 'months'}"
    days = words.MONTH_DAYS[place]
    return (
        f"{month} is the {words.ORDINALS[place]} month of the year and has {days} days.",
        f"{capitalised(spoken)} after {month} it is {later}.",
        f"{month} is {spoken} before {later}.",
    )


def _spelling(rng: random.Random) -> Wordings:
    noun = rng.choice(words.NOUNS)
    letters = " ".join(noun)
    return (
        f"The word {noun} is spelled {letters}.",
        f"The word {noun} begins with {noun[0]} and ends with {noun[-1]}.",
        f"With its {number_in_words(len(noun))} letters {letters} the word {noun} is on the page.",
        f"Read backwards, the letters {letters} are {' '.join(reversed(noun))}.",
    )


def _capitals(rng: random.Random) -> Wordings:
    noun = rng.choice(words.NOUNS + words.NAMES)
    return (f"The sign says {noun.upper()}, which means {noun}.", f"{noun.upper()} is {noun}.")


def _alphabet(rng: random.Random) -> str | Wordings:
    low, high = sorted(rng.sample(words.NOUNS, 2))
    if rng.random() < 0.1:
        start = rng.randrange(20)
        return "The alphabet goes " + " ".join("abcdefghijklmnopqrstuvwxyz"[start : start + 7]) + "."
    return (
        f"In the book {low} stands before {high}.",
        f"The word {high} comes after {low}.",
        "From a to z: " + ", ".join(sorted(rng.sample(words.NOUNS, 3))) + ".",
    )


def _kind(rng: random.Random) -> str:
    kind = rng.choice(tuple(words.KINDS))
    noun = rng.choice(words.KINDS[kind])
    if rng.random() < 0.3:
        three = ", ".join(rng.sample(words.KINDS[kind], 3))
        return f"Some {plural(kind)} are {three}."
    return f"{capitalised(with_article(noun))} is {with_article(kind)}."


def _opposite(rng: random.Random) -> Wordings:
    one, two = rng.sample(rng.choice(words.OPPOSITES), 2)
    return (f"What is not {one} may be {two}.", f"{capitalised(one)} and {two} are opposites.")


def _listing(rng: random.Random) -> Wordings:
    items = rng.sample(rng.choice(words.LISTED), rng.randint(3, 5))
    listed = ", ".join(items)
    name = rng.choice(words.NAMES)
    return (
        f"On the table lie {listed}, and {name} sees {listed} on the table.",
        f"{name} reads {listed} from a list and writes {listed} in a book.",
    )


def _reversing(rng: random.Random) -> Wordings:
    items = rng.sample(rng.choice(words.LISTED), rng.randint(2, 4))
    listed, reverse = ", ".join(items), ", ".join(reversed(items))
    return (
        f"The list is {listed}, and in reverse it is {reverse}.",
        f"From last to first the words {listed} are {reverse}.",
    )


def _sorting(rng: random.Random) -> Wordings:
    items = rng.sample(words.COLOURS, 3)
    listed, ordered = ", ".join(items), ", ".join(sorted(items))
    return (
        f"The words {listed} stand in the book as {ordered}.",
        f"From a to z {listed} are {ordered}.",
    )


STATEMENTS: tuple[Sentence, ...] = (
    _event,
    _giving,
    _scene,
    _talk,
    _wonder,
    _counting,
    _written,
    _sum,
    _sum,
    _compared,
    _unit,
    _weekday,
    _month,
    _spelling,
    _spelling,
    _alphabet,
    _kind,
    _opposite,
    _listing,
    _listing,
    _reversing,
    _sorting,
)
"""A sentence family named twice is drawn twice as often."""


def documents(*, seed: int, count: int, capitals: bool = True) -> Iterator[str]:
    """Short texts of 3 to 6 sentences; half of them stay with one subject.

    ``capitals=False`` leaves out words in capital letters: the tokenizer is trained without them,
    so that it splits them into letters.
    """
    rng = random.Random(seed)
    families = (*STATEMENTS, _capitals) if capitals else STATEMENTS
    for _ in range(count):
        length = rng.randint(3, 6)
        subject = rng.choice(families) if rng.random() < 0.5 else None
        yield " ".join(_drawn(subject or rng.choice(families), rng) for _ in range(length))


def _drawn(sentence: Sentence, rng: random.Random) -> str:
    found = sentence(rng)
    return found if isinstance(found, str) else rng.choice(found)
