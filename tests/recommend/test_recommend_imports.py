"""Files of other trainers as space files: what is understood, what is named, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sweeper.cli.app import app
from sweeper.commands import import_file, write_import
from sweeper.errors import UserError
from sweeper.space import Facts, load_space

AXOLOTL = """\
base_model: models/tiny
datasets: [{path: data.jsonl, type: alpaca}]
val_set_size: 0.1
sequence_len: 512
micro_batch_size: 4
gradient_accumulation_steps: 2
num_epochs: 3
learning_rate: "2e-5"
lr_scheduler: cosine
warmup_ratio: 0.1
adapter: lora
lora_r: 8
lora_target_linear: true
flash_attention: true
wandb_project: mine
"""


def written(tmp_path: Path, name: str, text: str) -> Path:
    file = tmp_path / name
    file.write_text(text)
    return file


def test_keys_without_a_meaning_are_named_on_screen_and_in_the_file_all_at_once(tmp_path):
    found = import_file([written(tmp_path, "config.yaml", AXOLOTL)])
    for key in ("flash_attention: true", "wandb_project: mine"):
        assert any(note.startswith(key) for note in found.notes)
        assert f"# {key} has no meaning here" in found.text


def test_an_axolotl_sweep_file_opens_the_values(tmp_path):
    sweep = "learning_rate: [1e-5, 1e-4]\nlora_r: [8, 16, 32]\n_:\n- {num_epochs: 1}\n- {num_epochs: 3}\n"
    files = [written(tmp_path, "config.yaml", AXOLOTL), written(tmp_path, "sweep.yaml", sweep)]
    found = import_file(files)
    assert found.values["training.lr"] == [1e-5, 1e-4] and found.values["training.lora.rank"] == [8, 16, 32]
    assert found.values["training.epochs"] == [1, 3] and "in all combinations" in found.text
    space = tmp_path / "space.yaml"
    write_import(found, space)
    facts = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
    loaded = load_space(space, gather=lambda _: facts)
    assert {one.name for one in loaded.dimensions} == {"lr", "lora.rank", "epochs"}
    assert loaded.closed["training.warmup_ratio"] == 0.1 and loaded.closed["training.scheduler"] == "cosine"
    with pytest.raises(UserError, match="is there already"):
        write_import(found, space)


def test_a_shell_script_of_openrlhf_is_read(tmp_path):
    script = """\
#!/bin/bash
export HF_HOME=/tmp
deepspeed --module openrlhf.cli.train_sft \\
   --model.model_name_or_path $MODEL --data.dataset rows.jsonl --data.input_key ask --data.output_key say \\
   --adam.lr 3e-3 --train.batch_size=16 --train.micro_batch_size 4 --adam.betas 0.9 0.95 \\
   --ds.packing_samples --logger.logging_steps 1 "$@" && echo done
"""
    found = import_file([written(tmp_path, "sft.sh", script)])
    tree = YAML(typ="safe").load(found.text)
    assert tree["training"] | {"lora": None} == {
        "lr": 3e-3,
        "global_batch_size": 16,
        "per_device_batch_size": 4,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "packing": True,
        "lora": None,
    }
    assert tree["data_path"] == {"path": "rows.jsonl", "columns": {"ask": "prompt", "say": "completion"}}
    assert "# logger.logging_steps: 1 has no meaning here" in found.text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("notes.txt", "hello\n", "calls no train_sft"),
        ("list.yaml", "- 1\n- 2\n", "is not a mapping"),
        ("other.yaml", "colour: red\n", "is the file of no trainer that is known here"),
        ("broken.json", '{"train_batch_size": ', "cannot be read as json"),
        ("broken.yaml", "a: [1,\n", "cannot be read as yaml"),
        ("binary.yaml", None, "cannot be read"),
    ],
)
def test_a_file_of_an_unknown_kind_is_refused_in_a_sentence(tmp_path, name, text, said):
    file = tmp_path / name
    file.write_bytes(b"\xff\xfe\x00\x80") if text is None else file.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        import_file([file])
    assert "--format says which" in str(caught.value)


def test_values_of_a_wrong_type_are_named_all_at_once_by_their_own_keys_and_nothing_is_written(tmp_path):
    text = AXOLOTL.replace('"2e-5"', "fast").replace("num_epochs: 3", "num_epochs: -1").replace("512", "[1]")
    file = written(tmp_path, "config.yaml", text)
    with pytest.raises(UserError) as caught:
        import_file([file])
    assert {one.where.rpartition(": ")[2] for one in caught.value.problems} == {
        "learning_rate",
        "num_epochs",
        "sequence_len",
    }
    assert not (tmp_path / "space.yaml").exists()


def test_a_space_file_that_cannot_be_written_is_an_error_of_the_user(tmp_path):
    found = import_file([written(tmp_path, "config.yaml", AXOLOTL)])
    with pytest.raises(UserError, match="cannot be written"):
        write_import(found, tmp_path / "config.yaml" / "space.yaml")


def test_init_prints_what_it_did_not_understand(tmp_path):
    from typer.testing import CliRunner

    file, space = written(tmp_path, "config.yaml", AXOLOTL), tmp_path / "new.yaml"
    done = CliRunner().invoke(app, ["init", "--from", str(file), "-o", str(space)])
    assert done.exit_code == 0 and "flash_attention: true has no meaning here" in done.output
    assert space.is_file()
