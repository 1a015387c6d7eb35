"""What runs in each consumer's own environment: its parser over files, its code over schedules.

Each is a program of its own: ``check.py question.json answer.json``.
"""

from __future__ import annotations

__all__ = ["CHECKS"]

_BEGIN = """
import json, sys, shlex, traceback, importlib.metadata
question, answer = json.load(open(sys.argv[1])), sys.argv[2]
sys.argv = ["check"]

def first(error):
    return f"{type(error).__name__}: {str(error)[:400]}"

def options(file):
    words = shlex.split(open(file).read(), comments=True)
    words = [word for word in words if word.strip()]
    start = next(n for n, word in enumerate(words) if word in ("sft", "openrlhf.cli.train_sft"))
    return words[start + 1:]

def read_all(read):
    told = []
    for file in question["files"]:
        try:
            read(file)
            told.append("")
        except BaseException as error:
            told.append(f"{file}: {first(error)}")
    return told

def curve(make, lr, steps):
    import torch
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, lrs = make(optimizer), []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs

def end(name, what, told, lrs):
    with open(answer, "w") as file:
        json.dump({"version": importlib.metadata.version(name), "what": what, "read": told, "lrs": lrs}, file)
"""

_TRAINER = """
def trainer_lrs(arguments_of):
    from transformers import get_scheduler
    lrs = []
    for one in question["schedules"]:
        said = arguments_of(one["keys"], one)
        make = lambda optimizer: get_scheduler(
            said["lr_scheduler_type"], optimizer, num_warmup_steps=said["warmup"],
            num_training_steps=one["steps"], scheduler_specific_kwargs=said.get("lr_scheduler_kwargs"))
        lrs.append(curve(make, one["lr"], one["steps"]))
    return lrs

def plain(keys, one):
    # as TrainingArguments.get_warmup_steps works it out
    from transformers import TrainingArguments
    said = dict(keys)
    warmup = said["warmup_steps"]
    arguments = TrainingArguments(output_dir="out", warmup_steps=warmup, report_to=[], use_cpu=True)
    return said | {"warmup": arguments.get_warmup_steps(one["steps"])}
"""

_DEEPSPEED = (
    _BEGIN
    + """
import deepspeed
from deepspeed.runtime import lr_schedules

def read(file):
    tree = json.load(open(file))
    assert deepspeed.DeepSpeedConfig(tree).train_batch_size == tree["train_batch_size"]

lrs = []
for one in question["schedules"]:
    section = one["scheduler"]
    if section is None:
        lrs.append([one["lr"]] * one["steps"])
        continue
    def make(optimizer):
        scheduler = getattr(lr_schedules, section["type"])(optimizer, **section["params"])
        scheduler.step()  # as the engine's first step finds it
        return scheduler
    lrs.append(curve(make, one["lr"], one["steps"]))
end("deepspeed", "deepspeed.DeepSpeedConfig", read_all(read), lrs)
"""
)

_TRL = (
    _BEGIN
    + _TRAINER
    + """
from trl.scripts.sft import make_parser
told = read_all(lambda file: make_parser().parse_args_and_config(["--config", file]))
end("trl", "the parser of `trl sft`", told, trainer_lrs(plain))
"""
)

_OPENRLHF = (
    _BEGIN
    + _TRAINER
    + """
import argparse, math, runpy, types
class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return object
for name in ("datasets", "datasets.utils", "models", "trainer", "trainer.sft_trainer", "utils"):
    module = Anything("openrlhf." + name)
    module.__path__ = []
    sys.modules["openrlhf." + name] = module
class Parsed(Exception):
    pass
real = argparse.ArgumentParser.parse_args
def parse_args(self, *given, **more):
    self.allow_abbrev = False
    raise Parsed(real(self, *given, **more))
argparse.ArgumentParser.parse_args = parse_args

def read(file):
    sys.argv = ["train_sft", *options(file)]
    try:
        runpy.run_module("openrlhf.cli.train_sft", run_name="__main__")
    except Parsed:
        return
    raise ValueError("it was not parsed")

def arguments_of(keys, one):
    kwargs = {"min_lr_rate": keys["min_lr_ratio"]} if keys["lr_scheduler"] == "cosine_with_min_lr" else {}
    warmup = math.ceil(one["steps"] * keys["lr_warmup_ratio"])
    return {"lr_scheduler_type": keys["lr_scheduler"], "lr_scheduler_kwargs": kwargs, "warmup": warmup}

told = read_all(read)
end("openrlhf", "the parser of openrlhf.cli.train_sft", told, trainer_lrs(arguments_of))
"""
)

_LLAMAFACTORY = (
    _BEGIN
    + _TRAINER
    + """
import importlib.machinery, types
from types import SimpleNamespace
sound = types.ModuleType("torchaudio")  # only for rows with sound
sound.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = sound
from llamafactory.hparams.parser import get_train_args
from llamafactory.data.parser import get_dataset_list
from llamafactory.train.trainer_utils import create_custom_scheduler
from omegaconf import OmegaConf

def read(file):
    tree = OmegaConf.to_container(OmegaConf.load(file))
    tree["output_dir"] = file + "-out"
    _, data, training, finetuning, _ = get_train_args(tree)
    assert get_dataset_list(data.dataset, data.dataset_dir)[0].load_from == "file"
    assert training.learning_rate == tree["learning_rate"]

def arguments_of(keys, one):
    said = plain(keys, one)
    training = SimpleNamespace(
        lr_scheduler_type=said["lr_scheduler_type"], lr_scheduler_kwargs=said.get("lr_scheduler_kwargs"),
        get_warmup_steps=lambda steps: said["warmup"])
    create_custom_scheduler(training, one["steps"])
    return said | {"lr_scheduler_kwargs": training.lr_scheduler_kwargs}

told = read_all(read)
end("llamafactory", "get_train_args and get_dataset_list", told, trainer_lrs(arguments_of))
"""
)

_AXOLOTL = (
    _BEGIN
    + _TRAINER
    + """
import yaml
from axolotl.utils.schemas.config import AxolotlInputConfig

def read(file):
    tree = yaml.safe_load(open(file))
    parsed = AxolotlInputConfig(**tree)
    unknown = set(tree) - set(AxolotlInputConfig.model_fields)
    assert not unknown, f"unknown keys: {unknown}"
    assert float(parsed.learning_rate) == tree["learning_rate"]

def arguments_of(keys, one):
    warmup = 2 if keys["warmup_steps"] == 1 else keys["warmup_steps"]  # core/builders/base.py
    return keys | {"lr_scheduler_type": keys["lr_scheduler"], "warmup": warmup}

told = read_all(read)
end("axolotl", "AxolotlInputConfig", told, trainer_lrs(arguments_of))
"""
)

_MS_SWIFT = (
    _BEGIN
    + _TRAINER
    + """
from swift.arguments import SftArguments
from swift.utils import parse_args

def read(file):
    import tempfile
    more = ["--model_type", "llama", "--template", "llama3", "--output_dir", tempfile.mkdtemp()]
    arguments, rest = parse_args(SftArguments, options(file) + more)
    assert not rest, f"unknown: {rest}"

told = read_all(read)
end("ms-swift", "SftArguments", told, trainer_lrs(plain))
"""
)

CHECKS = {
    "deepspeed": _DEEPSPEED,
    "trl": _TRL,
    "openrlhf": _OPENRLHF,
    "llamafactory": _LLAMAFACTORY,
    "axolotl": _AXOLOTL,
    "ms-swift": _MS_SWIFT,
}
