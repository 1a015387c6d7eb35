"""What the tests of several rooms share: closed configurations of the packaged model on few rows."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before numpy is imported

import gc
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gpus import FOUR, write_nvidia_smi
from forked_processes import WORKERS
from hypothesis import HealthCheck, settings
from postgres_server import Postgres, find_programs
from ray_cluster import TOKEN, RayCluster
from warm_processes import empty_store, hurry_databases, share, warm

from sweeper.quickstart import DATA_FILE
from sweeper.space import Config

settings.register_profile(
    "any machine", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
"""No example fails because the machine is busy; one that fails is printed so that it can be run again."""

SLOW_TO_START = {"one_node", "two_nodes", "rank", "postgres", "migrated"}
"""Fixtures that take seconds: a Ray, torch and DeepSpeed in a process, a database. ``make test-fast`` leaves
out what needs them, and what is marked slow in its own file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_TO_START & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What has been imported stays: a trial that ends need not look for garbage in it."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was measured or found on this machine before is nothing to a test, which adds nothing to it."""
    with pytest.MonkeyPatch.context() as patch:
        hurry_databases()
        patch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SWEEPER_HISTORY", "off")
        patch.setenv("SWEEPER_REPORT", "off")  # a second for each of many sweeps
        yield


@pytest.fixture(scope="session")
def few_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows of the packaged instructions."""
    return first_rows(tmp_path_factory.mktemp("rows") / "train.jsonl", 120)


@pytest.fixture(scope="session")
def fewer_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 of them: eight steps of eight rows beside 16 held-out rows."""
    return first_rows(tmp_path_factory.mktemp("rows") / "train.jsonl", 80)


def first_rows(file: Path, rows: int) -> Path:
    lines = DATA_FILE.read_text(encoding="utf-8").split("\n")[:rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def quick_config(fewer_rows: Path) -> Callable[..., Config]:
    return quick_configs(fewer_rows)


@pytest.fixture(scope="session")
def longer_config(few_rows: Path) -> Callable[..., Config]:
    """On 120 rows: twelve steps."""
    return quick_configs(few_rows)


def quick_configs(rows: Path) -> Callable[..., Config]:
    """Makes a closed configuration: a short run of the packaged model in fp32 on one CPU rank.

    Keywords are fields of training, deepspeed and parallel.
    """

    def make(**changes: Any) -> Config:
        training = {
            "lr": 1e-3,
            "scheduler": "cosine",
            "final_lr_ratio": 0.0,
            "warmup_ratio": 0.1,
            "decay_ratio": 0.2,
            "epochs": 1,
            "per_device_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "max_seq_len": 96,
        }
        sections: dict[str, dict[str, Any]] = {
            "training": training,
            "deepspeed": {"zero_stage": 0, "precision": "fp32"},
            "parallel": {"dp": 1},
        }
        homes = {"zero_stage", "offload", "gradient_checkpointing", "precision", "config"}
        for name, value in changes.items():
            parallel = name in {"dp", "pp", "tp"}
            section = "deepspeed" if name in homes else "parallel" if parallel else "training"
            sections[section][name] = value
        training["global_batch_size"] = (
            training["per_device_batch_size"]
            * training["gradient_accumulation_steps"]
            * sections["parallel"]["dp"]
        )
        return Config.model_validate(
            {
                "name": "quick",
                "model_path": "builtin:quickstart",
                "data_path": str(rows),
                "eval_data": 0.2,
                "objective": {"evaluations": 3},
                "resources": {"max_concurrent": 1, "cpus_per_rank": 1, "gpus_per_rank": 0},
                **sections,
            }
        )

    return make


@pytest.fixture(scope="session")
def write_space(fewer_rows: Path) -> Callable[..., Path]:
    """Writes a space file that searches lr over a few rows of the packaged data; keys can be replaced."""

    def write(folder: Path, **changes: Any) -> Path:
        tree: dict[str, Any] = {
            "name": "small",
            "model_path": "builtin:quickstart",
            "data_path": str(fewer_rows),
            "eval_data": 0.2,
            "training": {
                "lr": {"log_uniform": [1e-4, 1e-2]},
                "scheduler": ["constant", "linear", "cosine", "exponential"],
                "epochs": 1,
                "gradient_accumulation_steps": [1, 2],
                "per_device_batch_size": 8,
                "max_seq_len": 96,
            },
            "deepspeed": {"zero_stage": 0, "precision": "fp32"},
            "objective": {"evaluations": 3},
            "search": {"trials": 3, "seed": 0, "stopper": "none"},
            "resources": {"max_concurrent": 1},
        }
        for key, value in changes.items():
            section, _, field = key.partition("__")
            if field:
                tree.setdefault(section, {})[field] = value
            else:
                tree[section] = value
        if tree["resources"]["max_concurrent"] != "auto":
            # Several threads of a small model wait for each other, most of all beside other tests.
            tree["resources"].setdefault("cpus_per_rank", 1)
        file = folder / "space.yaml"
        file.write_text(json.dumps(tree))  # JSON is YAML
        return file

    return write


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB; skipped where this user cannot mount one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server of the tests' own, on a free port of this machine."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed here")
    with Postgres(programs) as server:
        yield server


@pytest.fixture(scope="session")
def one_node() -> Iterator[RayCluster]:
    """A Ray with room for eight ranks, for all tests of this process: it takes seconds to start."""
    with RayCluster(8, gpus=None, forked=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def ray_here(one_node: RayCluster) -> Iterator[None]:
    """This process is connected to it, as tests are that talk to ranks directly."""
    import ray

    ray.init(address=one_node.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def running_ray(one_node: RayCluster) -> Iterator[None]:
    """The commands of a module, in this process and in others, use it, as on a cluster. What starts with a
    sweep otherwise is shared as well, the workers of a Ray of its own among it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", one_node.address)
        if one_node.forked:
            patch.setenv(WORKERS, warm("ranks"))
        share(patch, warm("rows"), empty_store())
        yield


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store to copy for each test: migrations take seconds."""
    from sweeper.track.store import open_store
    from sweeper.track.uri import Redactor

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{file}", "warm-up", Redactor(""))
    return file


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[RayCluster]:
    """A Ray cluster of two nodes with one CPU each, which asks for a token."""
    with RayCluster(1, 1, token=TOKEN, forked=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def fake_gpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which nvidia-smi tells of four GPUs."""
    folder = tmp_path_factory.mktemp("gpus")
    write_nvidia_smi(folder, FOUR)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture(scope="session")
def node_of_new_ranks() -> Iterator[RayCluster]:
    """A Ray whose ranks are new processes, for all tests of this process that need it."""
    with RayCluster(2) as cluster:
        yield cluster


@pytest.fixture
def new_ranks(node_of_new_ranks: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands' ranks are new processes: a forked one holds less memory of its own, and a limit that is
    to be met is written for new ones."""
    monkeypatch.setenv("RAY_ADDRESS", node_of_new_ranks.address)
    monkeypatch.delenv(WORKERS, raising=False)
