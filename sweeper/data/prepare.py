"""From a configuration to tokenized rows, once for all trials of a sweep."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from sweeper.data.cache import LongSplit, TokenizedData, TokenizedSplit, adapted_count, write_cache
from sweeper.data.collecting import Collected, Progress, collect
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.data.mixture import Origins, mix
from sweeper.data.model.model_folder import survey_model
from sweeper.data.parts import Maker, Part
from sweeper.data.problems import Problems
from sweeper.data.read.examples import load_examples
from sweeper.data.render.chat_template import ChatTemplate, stop_notes, unused_keys_note
from sweeper.data.render.templates import AUTO
from sweeper.data.render.tokenizer import Tokenizer, load_tokenizer, pad_id_of, unknown_markers
from sweeper.data.render.tools import ADAPTATIONS
from sweeper.errors import DataError, ModelError
from sweeper.space import Config

__all__ = ["prepare", "prepared_folder", "tokenized"]


Indices = npt.NDArray[np.int64]
_SPLIT_COUNTS = ("rows_in_several_sequences", "repeated_tokens")


def prepared_folder(config: Config, cache_dir: Path) -> Path:
    """Where the tokenized rows of a configuration lie, or will: ``cache_dir/<fingerprint>``.

    Reads the data's files once, and transformers is imported only for the tokenizer of a hub id.

    Raises: DataError, ModelError where a file of the data or the tokenizer is not there.
    """
    try:
        return cache_dir / prepared_fingerprint(config)
    except DataError:
        load_examples(config)  # tells the other problems of the rows along with the missing file
        raise


def tokenized(
    config: Config,
    folder: Path,
    *,
    begun: Callable[[], object] = lambda: None,
    progress: Progress = lambda *_: None,
) -> TokenizedData:
    """The rows in a ``prepared_folder``, made first where it is not there yet.

    Safe from several processes at once: one makes it, the others wait; ``begun`` is called where it is this
    one, ``progress`` from then on. What a process made that was killed is used by the next one. The model's
    weights are not touched, and transformers is imported only where rows have to be tokenized.

    Raises: DataError for rows that cannot be read or used, ModelError for the tokenizer.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                begun()
                _make(config, folder, progress)
    return TokenizedData.open(folder)


def prepare(config: Config, cache_dir: Path) -> TokenizedData:
    """Both steps in one process."""
    return tokenized(config, prepared_folder(config, cache_dir))


def _make(config: Config, folder: Path, progress: Progress) -> None:
    if mix(folder, [source.weight for source in config.sources]):
        return
    parts = folder.with_name(f".{folder.name}.parts")
    try:
        _make_of_files(config, folder, parts, progress)
    except (DataError, ModelError):
        shutil.rmtree(parts, ignore_errors=True)
        raise
    shutil.rmtree(parts, ignore_errors=True)


def _make_of_files(config: Config, folder: Path, parts: Path, progress: Progress) -> None:
    problems = Problems(config.max_bad_rows)
    tokenizer = load_tokenizer(
        config.model_path,
        chat_template=config.chat_template,
        trust_remote_code=config.trust_remote_code,
    )
    collected = collect(config, Maker(config, tokenizer), parts, problems, progress)
    counts = {"rows_read": collected.rows_read} | collected.choice.counts
    counts |= dict.fromkeys((*map(adapted_count, ADAPTATIONS), *_SPLIT_COUNTS), 0)
    splits = _Splits(config, collected, problems, counts)
    train, origins = splits.make("train", collected.choice.train, collected.choice.times)
    held_out, _ = splits.make("eval", collected.choice.eval, np.ones_like(collected.choice.eval))
    problems.raise_if_any()
    splits.check_ids(survey_model(config.model_path, Problems()).vocab_size, tokenizer)
    counts["rows_bad"] = problems.bad_rows
    meta = {
        "fingerprint": folder.name,
        "pad_id": pad_id_of(tokenizer),
        "max_seq_len": config.training.max_seq_len,
        "counts": counts,
        "notes": _notes(tokenizer, config.chat_template, collected),
    }
    write_cache(
        folder,
        train=train,
        eval=held_out,
        meta=meta,
        bad_rows=problems.told_bad_rows(),
        origins=None if len(config.sources) == 1 else origins,
    )


def _notes(tokenizer: Tokenizer, chat_template: str, collected: Collected) -> list[str]:
    template = ChatTemplate(tokenizer)
    unused = unused_keys_note(collected.message_keys, template.source)
    notes = [*collected.notes, *unused, *stop_notes(template)]
    unknown = unknown_markers(tokenizer) if chat_template != AUTO else ()
    if unknown:
        notes.append(
            f"the tokenizer has no token for {', '.join(unknown)} of chat_template {chat_template}: "
            "it writes each as several tokens of text"
        )
    return notes


@dataclass
class _Splits:
    """Makes the splits of one data set, counting what becomes of their rows."""

    config: Config
    collected: Collected
    problems: Problems
    counts: dict[str, int]
    highest: tuple[int, str] = (-1, "")
    """The highest token id, and where the row lies that it is in."""

    def make(self, name: str, examples: Indices, times: Indices) -> tuple[LongSplit, Origins]:
        """The split of these examples, each as often as ``times`` says; a problem where no row is left."""
        picked, tables, origins = [], [], []
        first_place, any_text = "", False
        for start, part in self.collected.parts(with_tokens=False):
            places = np.searchsorted(examples, part.sequences["example"] + start)
            low, high = np.searchsorted(examples, [start, start + len(part.answered)])
            self._note_refused(part, examples[low:high] - start)
            if low < high:
                first_place = first_place or part.told.places[examples[low] - start]
            is_in = examples[np.minimum(places, len(examples) - 1)] == part.sequences["example"] + start
            kept = self._kept(name, part, is_in)
            any_text = any_text or bool(is_in.any())
            origins.append(places[kept])
            again = np.repeat(kept, times[places[kept]])
            picked.append(again)
            tables.append(part.sequences[again])
        table = np.concatenate(tables)
        if not len(table):
            self._note_nothing_left(name, first_place, any_text=any_text)
        self.counts[f"{name}_rows"] = len(table)
        self.counts[f"{name}_tokens"] = int(table["tokens"].sum())
        self.counts[f"{name}_completion_tokens"] = int(table["loss_tokens"].sum())

        def stretches() -> Iterator[TokenizedSplit]:
            for (_, part), indices in zip(self.collected.parts(), picked, strict=True):
                if len(indices):
                    assert part.tokens is not None
                    yield part.tokens.take(indices)

        split = LongSplit(
            lengths=table["tokens"], completion_tokens=table["loss_tokens"], stretches=stretches
        )
        return split, Origins(examples=np.concatenate(origins), owners=self.collected.owners[examples])

    def _kept(self, name: str, part: Part, is_in: npt.NDArray[np.bool_]) -> Indices:
        """The sequences of a part that stay, of those that are in the split."""
        table = part.sequences
        fits = is_in & ~(table["truncated"] & (self.config.training.overlong == "drop"))
        kept = fits & (table["loss_tokens"] > 0)
        self._count(f"{name}_overlong_dropped", is_in & ~fits)
        self._count(f"{name}_dropped", fits & ~kept)
        self._count(f"{name}_truncated", kept & table["truncated"])
        for bit, adaptation in enumerate(ADAPTATIONS):
            was_adapted = (table["adapted"] >> bit & 1).astype(bool)
            self._count(adapted_count(adaptation), kept & was_adapted & (table["part"] == 0))
        self._count("rows_in_several_sequences", kept & (table["part"] == 1))
        self.counts["repeated_tokens"] += int(table["repeated"][kept].sum())
        found: Indices = np.flatnonzero(kept)
        if len(found):
            most = found[np.argmax(table["highest"][found])]
            place = part.told.places[table["example"][most]]
            self.highest = max(self.highest, (int(table["highest"][most]), place))
        return found

    def _count(self, name: str, which: npt.NDArray[np.bool_]) -> None:
        self.counts[name] = self.counts.get(name, 0) + int(which.sum())

    def _note_refused(self, part: Part, examples: Indices) -> None:
        wanted = set(examples.tolist()) if part.told.refused else ()
        for index, reason in part.told.refused:
            if index in wanted:
                with self.problems.noting(part.told.places[index], row=True):
                    raise reason

    def _note_nothing_left(self, name: str, where: str, *, any_text: bool) -> None:
        file, limit = where.rpartition(":")[0], f"max_seq_len {self.config.training.max_seq_len}"
        if any_text:
            remedy = "raise training.max_seq_len, or shorten the rows"
            if self.config.training.overlong == "drop":
                self.problems.add(file, f"no {name} row is so short", remedy, f"{limit}, overlong: drop")
            else:
                rule = f"no {name} row has a completion within so many tokens"
                self.problems.add(file, rule, remedy, limit)
        elif not self.problems.told():  # else the rows that the template refuses are told already
            self.problems.add(file, f"the chat template refuses every {name} row", "name a chat_template")

    def check_ids(self, embedding_rows: int | None, tokenizer: Tokenizer) -> None:
        """Raises: ModelError where a row holds a token that the model's embedding has no row for."""
        token, where = self.highest
        if embedding_rows is None or token < embedding_rows:
            return
        raise ModelError.of(
            where=where,
            value=f"{tokenizer.convert_ids_to_tokens(token)} (token {token})",
            rule=f"the model's embedding has {embedding_rows:,} rows (vocab_size of its config.json), "
            f"and its tokenizer {len(tokenizer):,} tokens",
            remedy="use the tokenizer that came with the model, or resize its embedding to the tokenizer",
        )
