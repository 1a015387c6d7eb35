"""From a configuration to tokenized rows, once for all trials of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from sweeper.data.cache import TokenizedData, TokenizedSplit, adapted_count, write_cache
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.data.mixture import Origins, mix
from sweeper.data.model.model_folder import survey_model
from sweeper.data.problems import Problems
from sweeper.data.read.examples import Examples, load_examples
from sweeper.data.read.formats import Example
from sweeper.data.render.chat_template import ChatTemplate, stop_notes, unused_keys_note
from sweeper.data.render.templates import AUTO
from sweeper.data.render.tokenizer import Tokenizer, load_tokenizer, pad_id_of, unknown_markers
from sweeper.data.render.tokens import tokenize
from sweeper.data.render.tools import ADAPTATIONS
from sweeper.errors import DataError, ModelError
from sweeper.space import Config

__all__ = ["prepare", "prepared_folder", "tokenized"]


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


def tokenized(config: Config, folder: Path, *, begun: Callable[[], object] = lambda: None) -> TokenizedData:
    """The rows in a ``prepared_folder``, made first where it is not there yet.

    Safe from several processes at once: one makes it, the others wait; ``begun`` is called where it is this
    one. The model's weights are not touched, and transformers is imported only where rows have to be
    tokenized.

    Raises: DataError for rows that cannot be read or used, ModelError for the tokenizer.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                begun()
                _make(config, folder)
    return TokenizedData.open(folder)


def prepare(config: Config, cache_dir: Path) -> TokenizedData:
    """Both steps in one process."""
    return tokenized(config, prepared_folder(config, cache_dir))


def _make(config: Config, folder: Path) -> None:
    if not mix(folder, [source.weight for source in config.sources]):
        _make_of_files(config, folder)


def _make_of_files(config: Config, folder: Path) -> None:
    problems = Problems(config.max_bad_rows)
    examples = load_examples(config, problems)
    tokenizer = load_tokenizer(
        config.model_path,
        chat_template=config.chat_template,
        trust_remote_code=config.trust_remote_code,
    )
    nothing_done = dict.fromkeys((*map(adapted_count, ADAPTATIONS), *_SPLIT_COUNTS), 0)
    counts = examples.counts | nothing_done
    splits = _Splits(config, tokenizer, problems, counts)
    train = splits.make("train", examples.train, examples.times)
    held_out = splits.make("eval", examples.eval, np.ones(len(examples.eval), dtype=np.int64))
    problems.raise_if_any()
    assert train is not None and held_out is not None
    splits.check_ids(survey_model(config.model_path, Problems()).vocab_size)
    counts["rows_bad"] = problems.bad_rows
    meta = {
        "fingerprint": folder.name,
        "pad_id": pad_id_of(tokenizer),
        "max_seq_len": config.training.max_seq_len,
        "counts": counts,
        "notes": _notes(tokenizer, config.chat_template, examples),
    }
    origins = None if len(config.sources) == 1 else Origins.of(splits.kept["train"], examples.train)
    write_cache(
        folder, train=train, eval=held_out, meta=meta, bad_rows=problems.told_bad_rows(), origins=origins
    )


def _notes(tokenizer: Tokenizer, chat_template: str, examples: Examples) -> list[str]:
    template = ChatTemplate(tokenizer)
    unused = unused_keys_note(examples.message_keys, template.source)
    notes = [*examples.notes, *unused, *stop_notes(template)]
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
    tokenizer: Tokenizer
    problems: Problems
    counts: dict[str, int]
    kept: dict[str, list[int]] = field(default_factory=dict)
    """Of each split, the examples that its rows come from, repeats not counted."""
    highest: tuple[int, str] = (-1, "")
    """The highest token id, and where the row lies that it is in."""

    def make(self, name: str, examples: list[Example], times: npt.NDArray[np.int64]) -> TokenizedSplit | None:
        """The split of these rows, each as often as ``times`` says; None, and a problem, where no row is
        left."""
        limit, learn_template = self.config.training.max_seq_len, self.config.learn_template_text
        found = list(tokenize(examples, self.tokenizer, limit, self.problems, learn_template=learn_template))
        drop = self.config.training.overlong == "drop"
        fitting = [(i, row) for i, row in found if not (row.truncated and drop)]
        kept = [(i, row) for i, row in fitting if row.mask.any()]
        self.counts[f"{name}_overlong_dropped"] = len(found) - len(fitting)
        self.counts[f"{name}_dropped"] = len(fitting) - len(kept)
        self.counts[f"{name}_truncated"] = sum(row.truncated for _, row in kept)
        for adaptation in ADAPTATIONS:
            adapted = sum(adaptation in row.adapted and not row.part for _, row in kept)
            self.counts[adapted_count(adaptation)] += adapted
        self.counts["rows_in_several_sequences"] += sum(row.part == 1 for _, row in kept)
        self.counts["repeated_tokens"] += sum(row.repeated_tokens for _, row in kept)
        if not kept:
            self._note_nothing_left(name, examples[0].where, any_text=bool(found))
            return None
        self.kept[name] = [i for i, _ in kept]
        self.highest = max(self.highest, *((int(row.ids.max()), examples[i].where) for i, row in kept))
        split = TokenizedSplit.of([row for i, row in kept for _ in range(times[i])])
        self.counts[f"{name}_rows"] = split.rows
        self.counts[f"{name}_tokens"] = len(split.ids)
        self.counts[f"{name}_completion_tokens"] = int(split.completion_tokens.sum())
        return split

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

    def check_ids(self, embedding_rows: int | None) -> None:
        """Raises: ModelError where a row holds a token that the model's embedding has no row for."""
        token, where = self.highest
        if embedding_rows is None or token < embedding_rows:
            return
        raise ModelError.of(
            where=where,
            value=f"{self.tokenizer.convert_ids_to_tokens(token)} (token {token})",
            rule=f"the model's embedding has {embedding_rows:,} rows (vocab_size of its config.json), "
            f"and its tokenizer {len(self.tokenizer):,} tokens",
            remedy="use the tokenizer that came with the model, or resize its embedding to the tokenizer",
        )
