"""Tokenizers made on the spot, and configurations that name them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_helpers import mark, save_tokenizer
from typer.testing import CliRunner

from sweeper.cli.app import app
from sweeper.space import Config

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder (without weights) whose tokenizer has a ChatML template."""
    return save_tokenizer(tmp_path_factory.mktemp("chat"), chat_template=CHATML)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a chat template."""
    return save_tokenizer(tmp_path_factory.mktemp("plain"), chat_template=None)


@pytest.fixture(scope="session")
def model_with_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a model's folder with the given chat template."""
    return lambda template: save_tokenizer(tmp_path_factory.mktemp("other"), chat_template=template)


@pytest.fixture
def shown(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What `sweeper data --json` says of rows: with "marked", each row with its loss between « and »."""

    def show(model: Path | str, data: Path | str, *arguments: str, **settings: Any) -> dict[str, Any]:
        training = {"max_seq_len": settings.pop("max_seq_len", 256), "lr": [1e-4, 1e-3]}
        training |= {"per_device_batch_size": 1, "gradient_accumulation_steps": 1}
        tree = {
            "name": "a",
            "model_path": str(model),
            "data_path": data if isinstance(data, dict) else str(data),
        }
        file = tmp_path / "shown.yaml"
        file.write_text(json.dumps({**tree, "training": training, **settings}))
        result = CliRunner().invoke(app, ["data", str(file), "--json", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        told = json.loads(result.output)
        told["marked"] = [mark(row["text"], row["loss"]) for row in told["rows"]]
        return told

    return show


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real data, ../shared/data, is not here")
    return folder


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """Makes a closed configuration of a model's folder and data."""

    def make(model: Path, data: Path | tuple[str, ...] | str, **changes: Any) -> Config:
        max_seq_len = changes.pop("max_seq_len", 512)
        tree: dict[str, Any] = {
            "name": "a-sweep",
            "model_path": str(model),
            "data_path": data if isinstance(data, tuple) else str(data),
            "training": {
                "lr": 1e-4,
                "scheduler": "cosine",
                "final_lr_ratio": 0.0,
                "warmup_ratio": 0.03,
                "decay_ratio": 0.2,
                "epochs": 1,
                "per_device_batch_size": 2,
                "gradient_accumulation_steps": 1,
                "global_batch_size": 2,
                "max_seq_len": max_seq_len,
            },
            "deepspeed": {"zero_stage": 0, "precision": "fp32"},
            "resources": {"max_concurrent": 1, "cpus_per_rank": 1, "gpus_per_rank": 0},
        }
        return Config.model_validate(tree | changes)

    return make


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a JSONL file."""

    def write(rows: list[dict[str, Any]], name: str = "train.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    return write
