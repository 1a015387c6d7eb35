"""From a configuration to tokenized rows, once for all trials of a sweep."""

from __future__ import annotations

from pathlib import Path

from sweeper.data.cache import TokenizedData, TokenizedSplit, write_cache
from sweeper.data.examples import load_examples
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.data.formats import Example
from sweeper.data.problems import Problems
from sweeper.data.render import tokenize
from sweeper.data.tokenizer import Tokenizer, load_tokenizer, pad_id_of
from sweeper.errors import DataError
from sweeper.spec import Config

__all__ = ["prepare"]


def prepare(config: Config, cache_dir: Path) -> TokenizedData:
    """The tokenized rows of ``cache_dir/<fingerprint>/``, made first where they are not there yet.

    Safe from several processes at once: each makes its own and the first one's stays. The model's
    weights are not touched, and transformers is imported only where rows have to be tokenized.

    Raises: DataError for rows that cannot be read or used, ModelError for the tokenizer.
    """
    fingerprint = _fingerprint(config)
    folder = cache_dir / fingerprint
    if not folder.is_dir():
        _make(config, folder, fingerprint)
    return TokenizedData.open(folder)


def _fingerprint(config: Config) -> str:
    try:
        return prepared_fingerprint(config)
    except DataError:
        load_examples(config)  # tells the other problems of the rows along with the missing file
        raise


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
