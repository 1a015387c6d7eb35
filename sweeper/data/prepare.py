"""From a configuration to tokenized rows, once for all trials of a sweep."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from sweeper.data.cache import TokenizedData, TokenizedSplit, write_cache
from sweeper.data.examples import load_examples
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.data.formats import Example
from sweeper.data.problems import Problems
from sweeper.data.render import tokenize
from sweeper.data.tokenizer import Tokenizer, load_tokenizer, pad_id_of
from sweeper.errors import DataError
from sweeper.spec import Config

__all__ = ["prepare", "prepared_folder", "tokenized"]


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


def tokenized(config: Config, folder: Path) -> TokenizedData:
    """The rows in a ``prepared_folder``, made first where it is not there yet.

    Safe from several processes at once: one makes it, the others wait. The model's weights are not
    touched, and transformers is imported only where rows have to be tokenized.

    Raises: DataError for rows that cannot be read or used, ModelError for the tokenizer.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                _make(config, folder, folder.name)
    return TokenizedData.open(folder)


def prepare(config: Config, cache_dir: Path) -> TokenizedData:
    """Both steps in one process."""
    return tokenized(config, prepared_folder(config, cache_dir))


def _make(config: Config, folder: Path, fingerprint: str) -> None:
    examples = load_examples(config)
    tokenizer = load_tokenizer(config.model_path)
    limit = config.training.max_seq_len
    problems = Problems()
    counts = dict(examples.counts)
    train = _split("train", examples.train, tokenizer, limit, problems, counts)
    held_out = _split("eval", examples.eval, tokenizer, limit, problems, counts)
    problems.raise_if_any()
    assert train is not None and held_out is not None
    write_cache(
        folder,
        train=train,
        eval=held_out,
        fingerprint=fingerprint,
        pad_id=pad_id_of(tokenizer),
        counts=counts,
    )


def _split(
    name: str,
    examples: list[Example],
    tokenizer: Tokenizer,
    max_seq_len: int,
    problems: Problems,
    counts: dict[str, int],
) -> TokenizedSplit | None:
    """The split of these rows with its counts; None, and a problem, where no row is left."""
    before = len(problems)
    rows = list(tokenize(examples, tokenizer, max_seq_len, problems))
    kept = [row for row in rows if row.mask.any()]
    if not kept:
        if len(problems) == before:
            problems.add(
                where=examples[0].where.rpartition(":")[0],
                value=f"max_seq_len {max_seq_len}",
                rule=f"no {name} row has a completion within so many tokens",
                remedy="raise training.max_seq_len, or shorten the prompts",
            )
        return None
    split = TokenizedSplit.of(kept)
    counts[f"{name}_rows"] = split.rows
    counts[f"{name}_truncated"] = sum(row.truncated for row in kept)
    counts[f"{name}_dropped"] = len(rows) - len(kept)
    counts[f"{name}_tokens"] = len(split.ids)
    counts[f"{name}_completion_tokens"] = int(split.completion_tokens.sum())
    return split
