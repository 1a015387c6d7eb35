"""Before the quality search: how many trials side by side have the most tokens per second together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sweeper.autotune import (
    Places,
    Speed,
    Tried,
    Tuning,
    beside,
    few_passes,
    known_places,
    known_speed,
    most_that_fit,
    next_count,
    places_shape,
    shapes_of,
    trained_rate,
    tuned,
    write_finding,
)
from sweeper.data import prepared_folder, tokenized
from sweeper.drive.probing import limit_gib, new_group, probe_job
from sweeper.errors import TrialOutOfMemoryError
from sweeper.search import Ledger
from sweeper.spec import Config, Resources, Space, SweepFolder, lighter, most_places, with_places
from sweeper.train import Job, Probed

if TYPE_CHECKING:
    from sweeper.train.group import WorkerGroup

__all__ = ["roomiest", "settle_places", "shared_out"]

_PLACES = "places"
"""What the ledger keeps, so that resuming goes on with the same."""

Say = Callable[[str], None]
T = TypeVar("T")


def roomiest(space: Space) -> tuple[Config, int]:
    """The largest trial, and how many of it there may be at once: what Ray needs room for."""
    if space.shared:
        space = with_places(space, most_places(space))
    config = _largest(space)
    return config, config.resources.max_concurrent


def _largest(space: Space) -> Config:
    return max(shapes_of(space), key=lambda one: one.parallel.ranks)


def shared_out(
    space: Space, tunings: tuple[Tuning, ...], ledger: Ledger, folder: SweepFolder, say: Say
) -> tuple[Space, Speed | None]:
    """The space with as many trials side by side as the ledger has it, or as are measured now to be fastest,
    and the speed of a trial then.

    Where the space leaves nothing of it to measuring, all is as it is. Raises what settle_places does.
    """
    speed = tunings[0].speed if tunings else known_speed(space)
    if not space.shared:
        return space, speed
    if noted := ledger.sweep_attributes().get(_PLACES):
        places = Places.from_dict(noted)
    else:
        places = settle_places(space, tunings, space.measured, folder, say)
        ledger.note_sweep(**{_PLACES: places.to_dict()})
    return with_places(space, places.taken.places), beside(places, speed)


def settle_places(
    space: Space,
    tunings: Sequence[Tuning],
    measured: frozenset[str],
    folder: SweepFolder,
    say: Say,
    *,
    fresh: bool = False,
) -> Places:
    """What was found before, or is measured now, of the space's largest trial; Ray is running.

    Args:
        tunings: of one trial alone.
        measured: paths of the fields that they settle.
        folder: where tokenized rows, logs and the marks of processes lie.
        fresh: measure again what is known.

    Raises:
        UserError: something of data or model is to be mended.
        TrialFailedError: the processes were lost, and not for want of memory.
    """
    from sweeper.drive.room import places_with_room

    config = tuned(_largest(space), tunings, measured)
    most = places_with_room(*roomiest(space))
    data = tokenized(config, prepared_folder(config, folder.cache_dir.absolute()))
    shape = places_shape(config, data.fingerprint)
    known = None if fresh else known_places(shape)
    if known is not None and next_count(known.up_to(most).tried, most, devices=_devices(space)) is None:
        places = known.up_to(most)
        say(f"autotune: known, {_answer(places)}")
        return places
    say(f"autotune: measuring how many trials are fastest side by side, {most} at most")
    places = Places(shape=shape, tried=_measured(space, config, most, folder, say))
    write_finding(places)
    say(f"autotune: {_answer(places)}")
    return places


def _measured(space: Space, config: Config, most: int, folder: SweepFolder, say: Say) -> tuple[Tried, ...]:
    tried = _climbed(space, config, most, folder, say)
    if tried[0].tokens_per_s is None and (smaller := lighter(config)) is not None:
        # As a trial that does not fit is made smaller.
        return _measured(space, smaller, most, folder, say)
    return tried


def _climbed(space: Space, config: Config, most: int, folder: SweepFolder, say: Say) -> tuple[Tried, ...]:
    tried: list[Tried] = []
    bench = _Bench(space, config, folder, say)
    try:
        while (count := next_count(tried, most, devices=_devices(space))) is not None:
            fitting = bench.room_for(count, tried)
            tried.append(bench.too_large(count) if fitting is None else bench.at_once(fitting))
            say(f"autotune: {_words(tried[-1])}")
    finally:
        bench.close()
    return tuple(tried)


class _Bench:
    """The warm processes of all places; new ones where each has other cores than before."""

    def __init__(self, space: Space, config: Config, folder: SweepFolder, say: Say) -> None:
        self._space, self._config, self._folder, self._say = space, config, folder, say
        self._data_dir = prepared_folder(config, folder.cache_dir.absolute())
        self._groups: list[WorkerGroup] = []
        self._cpus_per_rank = 0
        self._start_s = 0.0
        self._idle_gib, self._free_gib = 0.0, 0.0

    def room_for(self, count: int, tried: Sequence[Tried]) -> int | None:
        """How many of so many places memory has room for; None where that is no more than were tried. One is
        tried in any case."""
        gpus, ranks = self._config.resources.gpus_per_rank, self._config.parallel.ranks
        if not tried:
            return count
        on_one = int(1 / gpus + 1e-9) if gpus else None
        return most_that_fit(count, tried[-1], ranks=ranks, free_gib=self._free_gib, on_one_device=on_one)

    def too_large(self, count: int) -> Tried:
        return Tried(places=count, cpus_per_rank=self._resources(count).cpus_per_rank, tokens_per_s=None)

    def at_once(self, count: int) -> Tried:
        """Raises what WorkerGroup does; its processes are gone then."""
        began = time.monotonic()
        self._start(count)
        started, jobs = threading.Barrier(count), self._jobs(count)
        try:
            probes = self._each(
                [partial(_probed, *pair, started) for pair in zip(self._groups, jobs, strict=True)]
            )
        except TrialOutOfMemoryError:
            return self.too_large(count)
        rates = [trained_rate(self._config, one) for one in probes]
        startup_s = max(one.startup_s for one in probes)
        return Tried(
            places=count,
            cpus_per_rank=self._cpus_per_rank,
            tokens_per_s=sum(rate for rate, _ in rates),
            spread=max(spread for _, spread in rates),
            evaluated_tokens_per_s=min(one.evaluated_tokens_per_s for one in probes),
            idle_gib=max(one.idle_gib for one in probes),
            taken_gib=max(one.peak_gib - one.idle_gib for one in probes),
            cold_start_s=self._start_s + startup_s,
            warm_start_s=startup_s,
            seconds=time.monotonic() - began,
        )

    def close(self) -> None:
        while self._groups:
            self._groups.pop().shut_down()

    def _start(self, count: int) -> None:
        """Have so many groups; threads are a property of a process."""
        resources = self._resources(count)
        if resources.cpus_per_rank != self._cpus_per_rank:
            self.close()
        self._cpus_per_rank = resources.cpus_per_rank
        config = self._config.model_copy(update={"resources": resources})
        began = time.monotonic()
        self._each([partial(self._add, config)] * (count - len(self._groups)))
        self._start_s = time.monotonic() - began
        if not self._free_gib:
            self._idle_gib, self._free_gib = self._groups[0].room()

    def _add(self, config: Config) -> None:
        self._groups.append(new_group(config, self._say))

    def _resources(self, count: int) -> Resources:
        shared = with_places(self._space, count).closed["resources.cpus_per_rank"]
        return self._config.resources.model_copy(update={"max_concurrent": count, "cpus_per_rank": shared})

    def _jobs(self, count: int) -> list[Job]:
        config = few_passes(self._config).model_copy(update={"resources": self._resources(count)})
        limit = limit_gib(config, places=count, idle_gib=self._idle_gib, free_gib=self._free_gib)
        return [
            probe_job(config, self._folder, self._data_dir, log=f"autotune-{place}.log", limit_gib=limit)
            for place in range(count)
        ]

    def _each(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """All at the same time; where one fails, or somebody interrupts, all processes are ended."""
        if not calls:
            return []
        with ThreadPoolExecutor(len(calls)) as pool:
            futures = [pool.submit(call) for call in calls]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                if any(one.exception() for one in done):
                    self.close()
                    wait(futures)
            except BaseException:
                self.close()
                raise
        errors = [error for one in (*done, *futures) if (error := one.exception())]
        if errors:
            raise min(errors, key=_telling)
        return [one.result() for one in futures]


def _probed(group: WorkerGroup, job: Job, started: threading.Barrier) -> Probed:
    """Measured from when all places are warm."""
    try:
        group.warm_up(job)
    except BaseException:
        started.abort()
        raise
    started.wait()
    return group.measure()


def _telling(error: BaseException) -> int:
    """The lower, the more an error says of why all places ended."""
    if isinstance(error, TrialOutOfMemoryError):
        return 0
    return 2 if isinstance(error, threading.BrokenBarrierError) else 1


def _devices(space: Space) -> int:
    return space.facts.devices if space.closed["resources.gpus_per_rank"] else 1


def _words(tried: Tried) -> str:
    if tried.tokens_per_s is None:
        return f"{tried.places} side by side: no room in memory"
    threads = "thread" if tried.cpus_per_rank == 1 else "threads"
    return (
        f"{tried.places} side by side: {tried.tokens_per_s:,.0f} tokens/s together "
        f"(spread {tried.spread:.0%}), {tried.cpus_per_rank} {threads} per rank"
    )


def _answer(places: Places) -> str:
    taken = places.taken
    written = f"max_concurrent: {taken.places}, cpus_per_rank: {taken.cpus_per_rank}"
    if taken.places > 1:
        return f"{taken.places} side by side: {places.gain:.1f} times the tokens/s of one ({written})"
    if places.tried[-1].tokens_per_s is None:
        return f"one trial at a time: memory has no room for more ({written})"
    return f"one trial at a time is as fast as several ({written})"
