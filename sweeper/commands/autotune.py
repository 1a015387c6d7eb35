"""Before the quality search: the fastest system configuration of each shape, found again or measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.autotune import (
    Speed,
    Tuner,
    Tuning,
    hardware_text,
    in_words,
    left_to_measuring,
    reusable,
    shape_text,
    shapes_of,
    write_tuning,
)
from sweeper.data import TokenizedData, gather_facts, prepared_folder, tokenized
from sweeper.errors import SweepInterruptedError, TrialFailedError, TrialOutOfMemoryError
from sweeper.ray_tune.cluster import ray_for, ray_request
from sweeper.ray_tune.probing import limit_gib, new_group
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.log_redirect import quiet
from sweeper.screen.screen import Say, Verbosity
from sweeper.space import (
    Config,
    Space,
    SweepFolder,
    load_space,
    require_hardware,
    require_own_trainer,
    secrets_of,
    system_config_of,
)
from sweeper.sweep.lock import locked, usable
from sweeper.training import Job, Probed, reap

if TYPE_CHECKING:
    from sweeper.training.ranks.group import WorkerGroup

__all__ = ["ProbeWorkers", "autotune_file", "settle"]

_HELD_OUT_ROWS = 32
"""Enough to time an evaluation."""


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
    require_own_trainer(space, "autotuning")
    require_hardware(space)
    scratch = SweepFolder(space.sweep_dir.with_name(f"{space.sweep_dir.name}-autotune"))
    with usable(scratch):
        scratch.root.mkdir(parents=True, exist_ok=True)
    secrets = secrets_of(space.settings).values()
    with locked(scratch), quiet(scratch.driver_log, *secrets, verbosity=verbosity) as screen:
        reap(scratch.processes_dir)
        config, places = ray_request(space)
        try:
            with Interrupts() as interrupts, ray_for(config, places=places, say=screen.say):
                interrupts.ask_first(None)  # Ray has put a handler of its own in between
                tunings = settle(space, scratch, screen.say, fresh=fresh)
        except KeyboardInterrupt as interrupt:
            raise SweepInterruptedError("interrupted; give the same command again") from interrupt
    return space, tunings


def settle(space: Space, folder: SweepFolder, say: Say, *, fresh: bool = False) -> tuple[Tuning, ...]:
    """One tuning for each shape of the space; Ray is running.

    Args:
        folder: where tokenized rows, logs and the marks of processes lie.
        fresh: measure again what is known.

    Raises:
        UserError: nothing fits, or something of data or model is to be mended.
        TrialFailedError: the processes were lost, and not for want of memory.
    """
    return tuple(_settled(space, config, folder, say, fresh) for config in shapes_of(space))


def _settled(space: Space, config: Config, folder: SweepFolder, say: Say, fresh: bool) -> Tuning:
    data = tokenized(config, prepared_folder(config, folder.cache_dir.absolute()))
    known, why = (None, "") if fresh else reusable(config, left_to_measuring(space), space.facts.sizes, data)
    if known is not None:
        say(f"autotune: known, {_answer(known, config)}")
        return known
    say(f"autotune: {why}: measuring" if why else "autotune: measuring, once for this shape")
    with closing(ProbeWorkers(config, folder, say)) as workers:
        tuning = _measured(space, config, data, workers, say)
    file = write_tuning(tuning)
    say(f"autotune: {_answer(tuning, config)} ({len(tuning.probes)} probes, {tuning.seconds:.0f} s, {file})")
    return tuning


def _measured(space: Space, config: Config, data: TokenizedData, workers: ProbeWorkers, say: Say) -> Tuning:
    began, measured = time.monotonic(), left_to_measuring(space)
    tuner = Tuner(
        config=config,
        measured=measured,
        sizes=space.facts.sizes,
        data=data,
        room_gib=workers.room_gib,
        idle_gib=workers.idle_gib,
        probe=workers.probe,
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
            cold_start_s=workers.started_s + first.startup_s,
            warm_start_s=last.startup_s,
        ),
        probes=tuple(tuner.records),
        calibration=tuner.calibration,
        idle_gib=workers.idle_gib,
        room_gib=workers.room_gib,
        seconds=workers.started_s + time.monotonic() - began,
        made_s=time.time(),
    )


class ProbeWorkers:
    """The warm processes that probes run in; new ones where one did not fit."""

    def __init__(self, config: Config, folder: SweepFolder, say: Say) -> None:
        self._config, self._say = config, say
        began = time.monotonic()
        self._group: WorkerGroup | None = new_group(config, say)
        self.started_s = time.monotonic() - began
        """What it took to have the processes."""
        try:
            self.idle_gib, free_gib = self._group.memory_gib()
            """Of a rank's process without a model."""
        except BaseException:
            self.close()  # nobody else knows of them yet
            raise
        limit = limit_gib(config, idle_gib=self.idle_gib, free_gib=free_gib)
        self.room_gib = max(limit - self.idle_gib, 0.0)
        """What a rank may take on top of that while as many trials as are asked for run side by side."""
        # A probe that takes more than its limit is told so by the allocator, before the kernel would end
        # something.
        limited = config.resources.model_copy(update={"memory_limit_gib": self.idle_gib + self.room_gib})
        self._job = Job(
            config=config.model_copy(update={"resources": limited}),
            cache_dir=folder.cache_dir.absolute(),
            data_dir=prepared_folder(config, folder.cache_dir.absolute()),
            log_file=(folder.logs_dir / "autotune.log").absolute(),
            processes=folder.processes_dir.absolute(),
            held_out_rows=_HELD_OUT_ROWS,
        )

    def probe(self, config: Config, *, steps: int | None = None) -> Probed:
        """Raises what WorkerGroup does; after that the next probe has new processes. What does not fit into
        processes that had probed before has a second try in new ones.

        Args:
            steps: train so many at most, the first of which is not measured. None: as there is time for.
        """
        limited = config.model_copy(update={"resources": self._job.config.resources})
        job = dataclasses.replace(self._job, config=limited, steps=steps)
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
        f"{in_words(tuning.levers)}: {speed.tokens_per_s:,.0f} tokens/s (spread {speed.spread:.0%}), "
        f"global batch {config.training.global_batch_size} kept"
    )
