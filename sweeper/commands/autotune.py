"""Before the quality search: the fastest system configuration of each shape, found again or measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.autotune import (
    Speed,
    Tuner,
    Tuning,
    hardware_text,
    left_to_measuring,
    reusable,
    shape_text,
    shapes_of,
    write_tuning,
)
from sweeper.data import TokenizedData, gather_facts, prepared_folder, tokenized
from sweeper.errors import SweepInterruptedError, TrialFailedError, TrialOutOfMemoryError
from sweeper.ray_tune.cluster import ray_for, ray_request
from sweeper.ray_tune.probing import limit_gib, new_group, probe_job
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.log_redirect import quiet
from sweeper.screen.screen import Say, Verbosity
from sweeper.space import (
    Config,
    Space,
    SweepFolder,
    SystemConfig,
    load_space,
    require_hardware,
    secrets_of,
    system_config_of,
)
from sweeper.sweep.lock import locked, usable
from sweeper.train import Probed, reap

if TYPE_CHECKING:
    from sweeper.train.ranks.group import WorkerGroup

__all__ = ["Bench", "autotune_file", "settle"]


def autotune_file(
    space_file: Path,
    *,
    overrides: Sequence[str] = (),
    fresh: bool = False,
    verbosity: Verbosity = Verbosity.NORMAL,
) -> tuple[Space, tuple[Tuning, ...]]:
    """Find the fastest system configuration for a file that fits, open or closed.

    Raises what ``settle`` does, and SweepInterruptedError.
    """
    space = load_space(space_file, overrides=overrides, gather=gather_facts)
    require_hardware(space)
    scratch = SweepFolder(space.sweep_dir.with_name(f"{space.sweep_dir.name}-autotune"))
    with usable(scratch):
        scratch.root.mkdir(parents=True, exist_ok=True)
    secrets = secrets_of(space.settings).values()
    with locked(scratch), quiet(scratch.driver_log, *secrets, verbosity=verbosity) as screen:
        reap(scratch.processes_dir)
        measured, (config, places) = left_to_measuring(space), ray_request(space)

        try:
            with Interrupts() as interrupts, ray_for(config, places=places, say=screen.say):
                interrupts.ask_first(None)  # Ray has put a handler of its own in between
                tunings = settle(space, measured, scratch, screen.say, fresh=fresh)
        except KeyboardInterrupt as interrupt:
            raise SweepInterruptedError("interrupted; give the same command again") from interrupt
    return space, tunings


def settle(
    space: Space, measured: frozenset[str], folder: SweepFolder, say: Say, *, fresh: bool = False
) -> tuple[Tuning, ...]:
    """One tuning for each shape of the space; Ray is running.

    Args:
        measured: paths of the fields that may change.
        folder: where tokenized rows, logs and the marks of processes lie.
        fresh: measure again what is known.

    Raises:
        UserError: nothing fits, or something of data or model is to be mended.
        TrialFailedError: the processes were lost, and not for want of memory.
    """
    return tuple(_one(space, config, measured, folder, say, fresh) for config in shapes_of(space))


def _one(
    space: Space, config: Config, measured: frozenset[str], folder: SweepFolder, say: Say, fresh: bool
) -> Tuning:
    data = tokenized(config, prepared_folder(config, folder.cache_dir.absolute()))
    known, why = (None, "") if fresh else reusable(config, measured, space.facts.sizes, data)
    if known is not None:
        say(f"autotune: known, {_answer(known, config)}")
        return known
    say(f"autotune: {why}: measuring" if why else "autotune: measuring, once for this shape")
    bench = Bench(config, folder, say)
    try:
        tuning = _measured(space, config, measured, data, bench, say)
    finally:
        bench.close()
    file = write_tuning(tuning)
    say(f"autotune: {_answer(tuning, config)} ({len(tuning.probes)} probes, {tuning.seconds:.0f} s, {file})")
    return tuning


def _measured(
    space: Space, config: Config, measured: frozenset[str], data: TokenizedData, bench: Bench, say: Say
) -> Tuning:
    began = time.monotonic()
    idle_gib, room_gib = bench.room()
    tuner = Tuner(
        config=config,
        measured=measured,
        sizes=space.facts.sizes,
        data=data,
        room_gib=room_gib,
        idle_gib=idle_gib,
        probe=bench.probe,
        start=None if space.measured else system_config_of(config),
        say=lambda text: say(f"autotune: {text}"),
    )
    best = tuner.search()
    assert best.tokens_per_s is not None
    first, last = tuner.probed[0], tuner.probed[-1]
    return Tuning(
        shape=shape_text(config, measured),
        hardware=hardware_text(),
        global_batch_size=config.training.global_batch_size,
        data=data.fingerprint,
        levers=best.levers,
        pass_tokens=best.pass_tokens,
        speed=Speed(
            tokens_per_s=best.tokens_per_s,
            spread=best.spread,
            evaluated_tokens_per_s=max(one.evaluated_tokens_per_s for one in tuner.probed),
            cold_start_s=bench.started_s + first.startup_s,
            warm_start_s=last.startup_s,
        ),
        probes=tuple(tuner.records),
        calibration=tuner.calibration,
        idle_gib=idle_gib,
        room_gib=room_gib,
        seconds=bench.started_s + time.monotonic() - began,
        made_s=time.time(),
    )


class Bench:
    """The warm processes that probes run in; new ones where one did not fit."""

    def __init__(self, config: Config, folder: SweepFolder, say: Say) -> None:
        self._config, self._folder, self._say = config, folder, say
        self._data_dir = prepared_folder(config, folder.cache_dir.absolute())
        began = time.monotonic()
        self._group: WorkerGroup | None = new_group(config, say)
        self.started_s = time.monotonic() - began
        """What it took to have the processes."""
        idle, free = self._group.memory_gib()
        places = config.resources.max_concurrent
        self._idle_gib = idle
        self._limit_gib = max(limit_gib(config, places=places, idle_gib=idle, free_gib=free), idle)

    def room(self) -> tuple[float, float]:
        """GiB of an idle rank, and what a rank may take on top of it while all places are at work."""
        return self._idle_gib, self._limit_gib - self._idle_gib

    def probe(self, config: Config, *, steps: int | None = None) -> Probed:
        """Raises what WorkerGroup does; after that the next probe has new processes. What does not fit into
        processes that had probed before has a second try in new ones.

        Args:
            steps: train so many at most, the first of which is not measured. None: as there is time for.
        """
        job = probe_job(config, self._folder, self._data_dir, log="autotune.log", limit_gib=self._limit_gib)
        job = dataclasses.replace(job, steps=steps)
        while True:
            group = self._warm()
            try:
                return group.probe(job)
            except TrialFailedError as error:
                self.close()
                if not (isinstance(error, TrialOutOfMemoryError) and group.has_run_before):
                    raise

    def _warm(self) -> WorkerGroup:
        if self._group is not None and self._group.should_recycle():
            self.close()
        self._group = self._group or new_group(self._config, self._say)
        return self._group

    def close(self) -> None:
        if self._group is not None:
            self._group.shut_down()
            self._group = None


def _answer(tuning: Tuning, config: Config) -> str:
    speed = tuning.speed
    return (
        f"{_words(tuning.levers)}: {speed.tokens_per_s:,.0f} tokens/s (spread {speed.spread:.0%}), "
        f"global batch {config.training.global_batch_size} kept"
    )


def _words(levers: SystemConfig) -> str:
    each = dataclasses.asdict(levers)
    return ", ".join(f"{name} {str(value).lower()}" for name, value in each.items())
