"""Worker processes for the long benchmarks, each on a core of its own."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from rich.progress import Progress

Answer = TypeVar("Answer")


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def answers(
    title: str, workers: int, function: Callable[..., Answer], jobs: Iterable[tuple[Any, ...]]
) -> Iterator[Answer]:
    """What `function` gives for the arguments of each job, in the order in which they end; a progress bar goes along.

    Two trainings on a core each are faster than one after the other on both. Where the caller stops or fails,
    jobs that have not begun are dropped.
    """
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for worker in range(workers):
        free.put(cores()[worker % len(cores())])
    with Progress() as progress, ProcessPoolExecutor(workers, context, _pin, (free,)) as pool:
        running = [pool.submit(function, *job) for job in jobs]
        bar = progress.add_task(title, total=len(running))
        try:
            for done in as_completed(running):
                yield done.result()
                progress.advance(bar)
        finally:
            pool.shutdown(cancel_futures=True)


def _pin(free: Any) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {free.get()})
