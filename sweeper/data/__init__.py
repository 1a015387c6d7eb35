"""Rows -> messages -> tokens and loss mask -> batches, with a cache that all trials share.

Importing this needs numpy only; transformers, pyarrow and datasets are imported by the functions
that use them.
"""

from sweeper.data.batches import NO_LOSS, arrange, batch_plan, best_fit, collate, sequences, spread
from sweeper.data.cache import Rows, TokenizedData, TokenizedSplit, difference, made_beside, stored_rows
from sweeper.data.fingerprint import model_fingerprint, sampled_hash
from sweeper.data.gathering import FirstLook, first_look, gather_facts
from sweeper.data.mixture import base_name, mixed_folder
from sweeper.data.model.copies import here, use_copies
from sweeper.data.model.model_folder import model_folder
from sweeper.data.order import SequenceSet, evaluation_steps, run_plan, tokens_after
from sweeper.data.prepare import prepare, prepared_folder, tokenized
from sweeper.data.preparing import COMMAND as PREPARING
from sweeper.data.preview import show_rows, shown_examples, shown_lines
from sweeper.data.read.examples import Examples
from sweeper.data.read.files import BUILTIN
from sweeper.data.read.formats import row_format
from sweeper.data.render.tokenizer import load_tokenizer, untrusted
from sweeper.data.retained.rows import (
    OWN_ANSWERS,
    answered,
    prompt_rows,
    retained_folder,
    retained_rows,
    stored_retained,
    write_retained,
)
from sweeper.data.sample import LengthSample, RowSample, load_sample

__all__ = [
    "BUILTIN",
    "NO_LOSS",
    "OWN_ANSWERS",
    "PREPARING",
    "Examples",
    "FirstLook",
    "LengthSample",
    "RowSample",
    "Rows",
    "SequenceSet",
    "TokenizedData",
    "TokenizedSplit",
    "answered",
    "arrange",
    "base_name",
    "batch_plan",
    "best_fit",
    "collate",
    "difference",
    "evaluation_steps",
    "first_look",
    "gather_facts",
    "here",
    "load_sample",
    "load_tokenizer",
    "made_beside",
    "mixed_folder",
    "model_fingerprint",
    "model_folder",
    "prepare",
    "prepared_folder",
    "prompt_rows",
    "retained_folder",
    "retained_rows",
    "row_format",
    "run_plan",
    "sampled_hash",
    "sequences",
    "show_rows",
    "shown_examples",
    "shown_lines",
    "spread",
    "stored_retained",
    "stored_rows",
    "tokenized",
    "tokens_after",
    "untrusted",
    "use_copies",
    "write_retained",
]
