"""Nothing that comes with a model, a checkpoint or data runs as code, unless the space file trusts it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sweeper.data import TokenizedData, gather_facts, prepare
from sweeper.errors import DataError, ModelError, UserError
from sweeper.space import TRUSTED, Settings
from sweeper.training.model.loading import ModelStore

QUICKSTART = Path(__file__).parents[2] / "sweeper" / "quickstart" / "model"

CODE = {
    "configuration_own.py": (
        "from transformers import LlamaConfig\n\n\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own_kind'\n"
    ),
    "modeling_own.py": (
        "import os\nfrom pathlib import Path\n\nfrom transformers import LlamaForCausalLM\n\n"
        "from .configuration_own import OwnConfig\n\n\n"
        "Path(os.environ['CODE_WAS_RUN']).touch()\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    ),
}


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path) -> Path:
    """Is there once a trap has sprung, or the model's code has run."""
    return tmp_path / "sprung"


@pytest.fixture
def own_kind(tmp_path) -> Path:
    """The packaged model as an architecture of its own, whose code lies beside it."""
    folder = tmp_path / "model"
    shutil.copytree(QUICKSTART, folder)
    for name, text in CODE.items():
        (folder / name).write_text(text)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own_kind", "architectures": ["OwnForCausalLM"]}
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def closed_file(folder: Path, model: Path, rows: Path, **changes: object) -> Path:
    tree = {
        "name": "trusting",
        "model_path": str(model),
        "data_path": str(rows),
        "training": {"lr": 1e-3, "epochs": 0.2, "per_device_batch_size": 8, "max_seq_len": 64},
        "deepspeed": {"zero_stage": 0, "precision": "fp32"},
        "objective": {"evaluations": 1},
        **changes,
    }
    (folder / "space.yaml").write_text(json.dumps(tree))
    return folder / "space.yaml"


def sweeper(mark: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CODE_WAS_RUN": str(mark), "HF_MODULES_CACHE": str(mark.parent / "modules")}
    command = [sys.executable, "-m", "sweeper", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=mark.parent, capture_output=True, text=True)


def test_a_model_that_needs_its_own_code_is_refused_before_training(own_kind, few_rows, mark, tmp_path):
    file = closed_file(tmp_path, own_kind, few_rows)
    done = sweeper(mark, "train", file)
    assert done.returncode == 2, done.stderr
    assert "needs Python code" in done.stderr and "trust_remote_code: true" in done.stderr
    assert "Traceback" not in done.stderr and TRUSTED not in done.stdout
    assert not mark.exists() and not (tmp_path / "models").exists()


@pytest.mark.slow
def test_a_model_whose_code_is_trusted_is_trained_and_the_screen_says_so(own_kind, few_rows, mark, tmp_path):
    file = closed_file(tmp_path, own_kind, few_rows, trust_remote_code=True)
    plan = sweeper(mark, "validate", file)
    assert plan.returncode == 0 and "trust_remote_code: true" in " ".join(plan.stdout.split())
    assert not mark.exists()
    done = sweeper(mark, "train", file, "--output-dir", tmp_path / "trained")
    assert done.returncode == 0, done.stderr
    assert TRUSTED in done.stdout
    assert mark.exists()
    saved = json.loads((tmp_path / "trained" / "config.json").read_text())
    assert saved["model_type"] == "own_kind"
    assert (tmp_path / "trained" / "modeling_own.py").is_file()


def test_code_beside_a_model_that_transformers_knows_is_left_alone(own_kind, quick_config, mark, monkeypatch):
    monkeypatch.setenv("CODE_WAS_RUN", str(mark))
    config = json.loads((own_kind / "config.json").read_text()) | {"model_type": "llama"}
    (own_kind / "config.json").write_text(json.dumps(config))
    asked = quick_config().model_copy(update={"model_path": str(own_kind)})
    assert gather_facts(Settings(name="a", model_path=str(own_kind), data_path=asked.data_path)).layers == 4
    assert ModelStore(own_kind / "cache").fresh(asked).num_parameters() > 1e6
    assert not mark.exists()


def test_weights_that_are_a_pickle_are_taken_as_tensors_only(quick_config, mark, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(QUICKSTART, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    asked = quick_config().model_copy(update={"model_path": str(folder)})
    torch.save(weights, folder / "pytorch_model.bin")
    model = ModelStore(tmp_path / "cache").fresh(asked)
    assert torch.equal(model.state_dict()["model.norm.weight"], weights["model.norm.weight"])
    torch.save({**weights, "trap": Trap(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        ModelStore(tmp_path / "cache").fresh(asked)
    assert not mark.exists()


def test_a_trap_in_a_checkpoint_is_not_sprung(rank, job_of, quick_config, mark, tmp_path):
    job, folder = job_of(quick_config()), tmp_path / "checkpoint"
    rank.prepare(job)
    rank.advance()
    rank.checkpoint(folder)
    for file in [folder / "random-0.pt", *folder.glob("state/**/*model_states.pt")]:
        content = file.read_bytes()
        torch.save({"module": Trap(mark)}, file)
        with pytest.raises(pickle.UnpicklingError):
            rank.prepare(replace(job, resume_from=folder))
        file.write_bytes(content)
    rank.stop()
    assert not mark.exists()


def test_a_trap_in_the_cache_of_tokens_is_not_sprung(quick_config, mark, tmp_path):
    folder = prepare(quick_config(), tmp_path / "cache").folder
    np.save(folder / "train.ids.npy", np.array([Trap(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a whole cache"):
        TokenizedData.open(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["train.pkl", "rows/train/data.pickle", "rows/rows.py"])
def test_a_trap_among_the_data_is_not_sprung(mark, tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    trap = (
        f"import os\nos.mkdir({str(mark)!r})\n".encode() if name.endswith(".py") else pickle.dumps(Trap(mark))
    )
    file.write_bytes(trap)
    where = file if file.parent == tmp_path else tmp_path / "rows"
    with pytest.raises(DataError):
        gather_facts(Settings(name="a", model_path="builtin:quickstart", data_path=str(where)))
    assert not mark.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.mkdir(%r) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ %r }}",
        "{%% include '/etc/passwd' %%}{{ %r }}",
    ],
)
def test_a_chat_template_reaches_neither_python_nor_files(quick_config, mark, tmp_path, template):
    (tmp_path / "own.jinja").write_text(template % str(mark))
    asked = quick_config().model_copy(update={"chat_template": str(tmp_path / "own.jinja")})
    with pytest.raises(UserError):
        prepare(asked, tmp_path / "cache")
    assert not mark.exists()
