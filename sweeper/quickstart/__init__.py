"""The embedded model and data behind the first command: no network, no account, no GPU.

``model/`` is a Llama of about a million parameters with a tokenizer and chat template of its own;
``data/train.jsonl`` is an instruction set that it does not know yet. Importing this door costs nothing.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DATA_FILE", "MODEL_DIR"]

MODEL_DIR: Path = Path(__file__).resolve().parent / "model"
"""A model folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load."""

DATA_FILE: Path = Path(__file__).resolve().parent / "data" / "train.jsonl"
"""Instruction rows, one JSON object a line: ``prompt``, ``completion``, ``family``."""
