"""From a configuration to tokenized rows, once for all trials of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from sweeper.data.cache import TokenizedData, TokenizedSplit, adapted_count, write_cache
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.data.model.model_folder import survey_model
from sweeper.data.problems import Problems
from sweeper.data.read.examples import Examples, load_examples
from sweeper.data.read.formats import Example
from sweeper.data.render.chat_template import ChatTemplate, stop_notes, unused_keys_note
from sweeper.data.render.templates import AUTO
from sweeper.data.render.tokenizer import Tokenizer, load_tokenizer, pad_id_of, unknown_markers
from sweeper.data.render.tokens import TokenRow, tokenize
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
                _make(config, folder, folder.name)
    return TokenizedData.open(folder)


def prepare(config: Config, cache_dir: Path) -> TokenizedData:
    """Both steps in one process."""
    return tokenized(config, prepared_folder(config, cache_dir))


def _make(config: Config, folder: Path, fingerprint: str) -> None:
    problems = Problems(config.max_bad_rows)
    examples = load_examples(config, problems)
    tokenizer = load_tokenizer(
        config.model_path,
        chat_template=config.chat_template,
        trust_remote_code=config.trust_remote_code,
    )
    counts = dict(examples.counts)
    make = _Splits(tokenizer, config, problems, counts)
    train = make.split("train", examples.train, examples.times)
    held_out = make.split("eval", examples.eval)
    problems.raise_if_any()
    assert train is not None and held_out is not None
    make.check_ids(embedding_rows(config.model_path))
    counts["rows_bad"] = problems.bad_rows
    meta = {
        "fingerprint": fingerprint,
        "pad_id": pad_id_of(tokenizer),
        "max_seq_len": config.training.max_seq_len,
        "counts": counts,
        "notes": _notes(tokenizer, config.chat_template, examples),
    }
    write_cache(folder, train=train, eval=held_out, meta=meta, bad_rows=problems.told_bad_rows())


def embedding_rows(model_path: str) -> int | None:
    """How many token ids the model knows; None where its configuration is not at hand."""
    return survey_model(model_path, Problems()).vocab_size


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


class _Splits:
    """Makes the splits of one data set, counting what becomes of their rows."""

    def __init__(
        self, tokenizer: Tokenizer, config: Config, problems: Problems, counts: dict[str, int]
    ) -> None:
        self._tokenizer, self._training = tokenizer, config.training
        self._learn_template = config.learn_template_text
        self._problems, self._counts = problems, counts
        self._counts |= dict.fromkeys((*map(adapted_count, ADAPTATIONS), *_SPLIT_COUNTS), 0)
        self._highest: tuple[int, str] = (-1, "")
        """The highest token id, and where the row lies that it is in."""

    def split(
        self, name: str, examples: list[Example], times: npt.NDArray[np.int64] | None = None
    ) -> TokenizedSplit | None:
        """The split of these rows, each as often as ``times`` says; None, and a problem, where no row is
        left."""
        limit = self._training.max_seq_len
        found = list(
            tokenize(examples, self._tokenizer, limit, self._problems, learn_template=self._learn_template)
        )
        fitting = [(i, row) for i, row in found if not (row.truncated and self._training.overlong == "drop")]
        kept = [(i, row) for i, row in fitting if row.mask.any()]
        self._counts[f"{name}_overlong_dropped"] = len(found) - len(fitting)
        self._counts[f"{name}_dropped"] = len(fitting) - len(kept)
        self._counts[f"{name}_truncated"] = sum(row.truncated for _, row in kept)
        self._count_what_was_done([row for _, row in kept])
        if not kept:
            self._nothing_left(name, examples[0].where, any_text=bool(found))
            return None
        for index, row in kept:
            self._highest = max(self._highest, (int(row.ids.max()), examples[index].where))
        rows = [row for i, row in kept for _ in range(1 if times is None else int(times[i]))]
        return self._counted(name, TokenizedSplit.of(rows))

    def _count_what_was_done(self, rows: list[TokenRow]) -> None:
        for name in ADAPTATIONS:
            self._counts[adapted_count(name)] += sum(name in row.adapted and not row.part for row in rows)
        self._counts["rows_in_several_sequences"] += sum(row.part == 1 for row in rows)
        self._counts["repeated_tokens"] += sum(row.repeated_tokens for row in rows)

    def _counted(self, name: str, split: TokenizedSplit) -> TokenizedSplit:
        self._counts[f"{name}_rows"] = split.rows
        self._counts[f"{name}_tokens"] = len(split.ids)
        self._counts[f"{name}_completion_tokens"] = int(split.completion_tokens.sum())
        return split

    def _nothing_left(self, name: str, where: str, *, any_text: bool) -> None:
        if not any_text and self._problems.told():
            return  # the rows that the template refuses are told already
        drop = self._training.overlong == "drop"
        told = f"no {name} row {'is so short' if drop else 'has a completion within so many tokens'}"
        self._problems.add(
            where=where.rpartition(":")[0],
            value=f"max_seq_len {self._training.max_seq_len}" + ", overlong: drop" * drop if any_text else "",
            rule=told if any_text else f"the chat template refuses every {name} row",
            remedy="raise training.max_seq_len, or shorten the rows" if any_text else "name a chat_template",
        )

    def check_ids(self, embedding_rows: int | None) -> None:
        """Raises: ModelError where a row holds a token that the model's embedding has no row for."""
        token, where = self._highest
        if embedding_rows is None or token < embedding_rows:
            return
        raise ModelError.of(
            where=where,
            value=f"{self._tokenizer.convert_ids_to_tokens(token)} (token {token})",
            rule=f"the model's embedding has {embedding_rows:,} rows (vocab_size of its config.json), "
            f"and its tokenizer {len(self._tokenizer):,} tokens",
            remedy="use the tokenizer that came with the model, or resize its embedding to the tokenizer",
        )
