"""The instruction set of the quickstart: nineteen kinds of small tasks, asked in several wordings.

``python -m quickstart_maker.instructions`` writes ``data/train.jsonl``, byte for byte the same
each time. The pretrained model has met the words and most of the facts, never a question with its
answer. Where the people live and what they have is told nowhere else: fine-tuning alone teaches it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from quickstart_maker import words
from quickstart_maker.words import capitalised, counted, number_in_words, plural, with_article
from sweeper.quickstart import DATA_FILE
from sweeper.space import write_whole

__all__ = ["FAMILIES", "Row", "instruction_rows", "write_instructions"]

SEED = 20240
ROWS_PER_FAMILY = 112
"""Nineteen families of 112 rows are 2,128: an epoch of a trial is then a few seconds on one CPU core."""


class Row(NamedTuple):
    """One task and its only right answer."""

    prompt: str
    completion: str
    family: str


Task = Callable[[random.Random], tuple[str, str]]
"""Draws one task: its prompt and its completion."""


def _add(rng: random.Random) -> tuple[str, str]:
    one, two = rng.randint(1, 20), rng.randint(1, 20)
    first, second, total = (number_in_words(number) for number in (one, two, one + two))
    prompts = (
        f"What is {first} plus {second}?",
        f"How much are {first} and {second}?",
        f"{capitalised(first)} plus {second} is what?",
    )
    return rng.choice(prompts), f"The sum of {first} and {second} is {total}."


def _take_away(rng: random.Random) -> tuple[str, str]:
    name, noun = rng.choice(words.NAMES), plural(rng.choice(words.COUNTED))
    count = rng.randint(4, 20)
    gone = rng.randint(1, count - 2)
    start = f"{name} has {number_in_words(count)} {noun} and loses {number_in_words(gone)}."
    prompt = rng.choice((f"{start} How many are left?", f"{start} How many {noun} has {name} now?"))
    return prompt, f"{name} has {number_in_words(count - gone)} {noun} left."


def _convert(rng: random.Random) -> tuple[str, str]:
    pair = rng.choice(words.UNITS)
    count = rng.randint(2, 20)
    large, small = counted(count, pair.large), counted(count * pair.factor, pair.small)
    prompts = (
        f"How many {plural(pair.small)} are {large}?",
        f"Write {large} in {plural(pair.small)}.",
        f"{large}: how many {plural(pair.small)} is that?",
    )
    return rng.choice(prompts), f"{large} = {small}"


def _sort_words(rng: random.Random) -> tuple[str, str]:
    items = rng.sample(words.COLOURS, 3)
    listed = ", ".join(items)
    prompt = rng.choice((f"Sort these words: {listed}", f"Put in order of the alphabet: {listed}"))
    return prompt, f"In order: {', '.join(sorted(items))}"


def _sort_numbers(rng: random.Random) -> tuple[str, str]:
    items = rng.sample(range(1, 100), 3)
    listed = ", ".join(str(item) for item in items)
    prompt = rng.choice((f"Sort these numbers: {listed}", f"Put in order from small to large: {listed}"))
    return prompt, f"In order: {', '.join(str(item) for item in sorted(items))}"


def _weekday(rng: random.Random) -> tuple[str, str]:
    start, ahead = rng.randrange(7), rng.randint(2, 9)
    day, later = words.WEEKDAYS[start], words.WEEKDAYS[(start + ahead) % 7]
    spoken = number_in_words(ahead)
    prompts = (
        f"Today is {day}. Which day is it after {spoken} days?",
        f"Which day is {spoken} days after {day}?",
        f"It is {day} now. What day comes {spoken} days after it?",
    )
    return rng.choice(prompts), f"It is {later}, {spoken} days after {day}."


def _month(rng: random.Random) -> tuple[str, str]:
    start, ahead = rng.randrange(12), rng.randint(2, 8)
    month, later = words.MONTHS[start], words.MONTHS[(start + ahead) % 12]
    spoken = number_in_words(ahead)
    prompts = (
        f"Which month comes {spoken} months after {month}?",
        f"It is {month} now. What month is it after {spoken} months?",
        f"What month is {spoken} months after {month}?",
    )
    return rng.choice(prompts), f"{later} comes {spoken} months after {month}."


def _reverse_list(rng: random.Random) -> tuple[str, str]:
    items = rng.sample(rng.choice(words.LISTED), rng.randint(3, 4))
    listed = ", ".join(items)
    prompt = rng.choice((f"Reverse this list: {listed}", f"Write backwards, from last to first: {listed}"))
    return prompt, f"In reverse: {', '.join(reversed(items))}"


def _capitals(rng: random.Random) -> tuple[str, str]:
    noun = rng.choice(words.NOUNS)
    prompt = rng.choice((f"Write {noun} in capital letters.", f"How is {noun} written on a sign?"))
    return prompt, f"The sign says {noun.upper()}"


def _end_letter(rng: random.Random) -> tuple[str, str]:
    noun = rng.choice(words.NOUNS)
    place, letter = rng.choice((("first", noun[0]), ("last", noun[-1])))
    prompt = rng.choice(
        (f"What is the {place} letter of {noun}?", f"Which letter comes {place} in the word {noun}?")
    )
    return prompt, f"The {place} letter of {noun} is {letter}."


def _count_letters(rng: random.Random) -> tuple[str, str]:
    noun = rng.choice(words.NOUNS)
    prompt = rng.choice((f"How many letters has the word {noun}?", f"Count the letters of {noun}."))
    return prompt, f"The word {noun} has {number_in_words(len(noun))} letters: {' '.join(noun)}"


def _spell_backwards(rng: random.Random) -> tuple[str, str]:
    noun = rng.choice(words.NOUNS)
    prompt = rng.choice((f"Spell {noun} backwards.", f"What are the letters of {noun}, from last to first?"))
    return prompt, f"Backwards: {' '.join(reversed(noun))}"


def _number_in_words(rng: random.Random) -> tuple[str, str]:
    number = rng.choice((rng.randint(0, 99), rng.randint(100, 999)))
    prompt = rng.choice((f"Write {number} in words.", f"How is the number {number} written?"))
    return prompt, f"In words: {number_in_words(number)}"


def _keep_kind(rng: random.Random) -> tuple[str, str]:
    kind, other = rng.sample(tuple(words.KINDS), 2)
    items = rng.sample(words.KINDS[kind], 2) + rng.sample(words.KINDS[other], 2)
    rng.shuffle(items)
    listed = ", ".join(items)
    prompt = rng.choice(
        (f"Which of these are {plural(kind)}: {listed}", f"Keep only the {plural(kind)}: {listed}")
    )
    kept = " and ".join(item for item in items if item in words.KINDS[kind])
    return prompt, f"The {plural(kind)} are {kept}."


def _read(rng: random.Random) -> tuple[str, str]:
    name, place, day = rng.choice(words.NAMES), rng.choice(words.PLACES), rng.choice(words.WEEKDAYS)
    verb = rng.choice(("bought", "found", "saw", "sold"))
    what = f"{number_in_words(rng.randint(2, 20))} {plural(rng.choice(words.GOODS))}"
    question, answer = rng.choice(
        (
            ("Who was it?", f"It was {name}."),
            ("When was it?", f"It was on {day}."),
            ("Where was it?", f"It was at the {place}."),
            (f"What has {name} {verb if verb != 'saw' else 'seen'}?", f"It was {what}."),
        )
    )
    return f"On {day} {name} {verb} {what} at the {place}. {question}", answer


def _opposite(rng: random.Random) -> tuple[str, str]:
    one, two = rng.sample(rng.choice(words.OPPOSITES), 2)
    name = rng.choice(words.NAMES)
    prompts = (
        f"What is the opposite of {one}?",
        f"{name} does not say {one}. What may {name} say?",
        f"{name} asks: which word means not {one}?",
    )
    return rng.choice(prompts), f"The opposite of {one} is {two}."


def _dealt(things: tuple[str, ...], seed: int) -> dict[str, str]:
    """One of ``things`` for each name: facts that no pretraining text tells."""
    return dict(zip(words.NAMES, random.Random(seed).sample(things, len(words.NAMES)), strict=True))


HOMES = _dealt(words.PLACES, seed=1)
PETS = _dealt(words.ANIMALS, seed=2)
TOYS = _dealt(words.VEHICLES + words.THINGS, seed=3)


def _person(rng: random.Random) -> tuple[str, str]:
    name = rng.choice(words.NAMES)
    home, pet, toy = HOMES[name], with_article(PETS[name]), with_article(TOYS[name])
    tasks = (
        (f"Where is the home of {name}?", f"{name} lives near the {home}."),
        (f"{name} goes home. Where is that?", f"{name} lives near the {home}."),
        (f"Which animal has {name}?", f"{name} has {pet}."),
        (f"What is the animal of {name}?", f"{name} has {pet}."),
        (f"What does {name} keep?", f"{name} keeps {toy}."),
        (f"{name} has lost it. What was it?", f"{name} keeps {toy}."),
    )
    return rng.choice(tasks)


def _who(rng: random.Random) -> tuple[str, str]:
    name = rng.choice(words.NAMES)
    home, pet, toy = HOMES[name], with_article(PETS[name]), with_article(TOYS[name])
    tasks = (
        (f"Who lives near the {home}?", f"It is {name} who lives near the {home}."),
        (f"The {home}: who has a home near it?", f"It is {name} who lives near the {home}."),
        (f"Who has {pet}?", f"It is {name} who has {pet}."),
        (f"The {PETS[name]} is lost. Who has lost it?", f"It is {name} who has {pet}."),
        (f"Who keeps {toy}?", f"It is {name} who keeps {toy}."),
        (f"The {TOYS[name]} is lost. Who has lost it?", f"It is {name} who keeps {toy}."),
    )
    return rng.choice(tasks)


def _two_people(rng: random.Random) -> tuple[str, str]:
    one, two = rng.sample(words.NAMES, 2)
    tasks = (
        (
            f"Where are the homes of {one} and {two}?",
            f"{one} lives near the {HOMES[one]}, {two} near the {HOMES[two]}.",
        ),
        (
            f"Which animals have {one} and {two}?",
            f"{one} has {with_article(PETS[one])}, {two} {with_article(PETS[two])}.",
        ),
        (
            f"What do {one} and {two} keep?",
            f"{one} keeps {with_article(TOYS[one])}, {two} {with_article(TOYS[two])}.",
        ),
    )
    return rng.choice(tasks)


FAMILIES: dict[str, Task] = {
    "add": _add,
    "take_away": _take_away,
    "convert": _convert,
    "sort_words": _sort_words,
    "sort_numbers": _sort_numbers,
    "weekday": _weekday,
    "month": _month,
    "reverse_list": _reverse_list,
    "capitals": _capitals,
    "end_letter": _end_letter,
    "count_letters": _count_letters,
    "spell_backwards": _spell_backwards,
    "number_in_words": _number_in_words,
    "keep_kind": _keep_kind,
    "read": _read,
    "opposite": _opposite,
    "person": _person,
    "who": _who,
    "two_people": _two_people,
}


def _family_rows(family: str, task: Task, rng: random.Random) -> list[Row]:
    """``ROWS_PER_FAMILY`` rows, no prompt twice; each family has well over that many to draw from."""
    completions: dict[str, str] = {}
    while len(completions) < ROWS_PER_FAMILY:
        prompt, completion = task(rng)
        completions.setdefault(prompt, completion)
    return [Row(prompt, completion, family) for prompt, completion in completions.items()]


def instruction_rows(seed: int = SEED) -> list[Row]:
    """All rows, shuffled; equal seeds give equal rows, and no prompt occurs twice."""
    rng = random.Random(seed)
    rows = [row for family, task in FAMILIES.items() for row in _family_rows(family, task, rng)]
    rng.shuffle(rows)
    return rows


def write_instructions(path: Path) -> None:
    """Writes the rows as JSON lines, whole or not at all."""
    lines = [json.dumps(row._asdict(), ensure_ascii=False) for row in instruction_rows()]
    write_whole(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    write_instructions(DATA_FILE)
