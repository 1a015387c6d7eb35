"""Work that is the same for many things, in as many processes as there are CPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

from sweeper.parent_death import die_with_parent

__all__ = ["count_cpus", "in_processes"]

Thing = TypeVar("Thing")
Result = TypeVar("Result")

_FEW = 2
"""So many things are no work for more than one process."""
_AHEAD = 2
"""So many things wait for each process: it never stands still, and little is held."""


def count_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_processes(
    work: Callable[[Thing], Result], things: Iterable[Thing], processes: int
) -> Iterator[Result]:
    """The result of each in their order; things are taken as they are needed.

    Processes are copies of this one, so that what ``work`` needs is there: none is started for one or two
    things, or where the system cannot copy processes. They die with this one, however it dies.
    """
    left = iter(things)
    first = list(islice(left, _FEW + 1))
    if processes == 1 or len(first) <= _FEW or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(work, chain(first, left))
        return
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("fork"), initializer=_begin, initargs=(work,)
    ) as pool:
        waiting: deque[Future[Any]] = deque()
        try:
            for thing in chain(first, left):
                waiting.append(pool.submit(_do, thing))
                if len(waiting) > _AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


_work: Callable[[Any], Any]


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads of a library do not survive the copying
    die_with_parent()


def _do(thing: Any) -> Any:
    return _work(thing)
