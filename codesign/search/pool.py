"""Worker processes of one machine: each a process of its own with its share of the cores.

The matrices of a network that fits on a chip are small: XLA finds little in them to divide among cores. Workers
therefore get cores of their own and train side by side.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.errors import CodesignError, StudyError
from codesign.search.server import PATIENCE_S, RETRY_S

if TYPE_CHECKING:
    from codesign.search.study import Study

POLL_S = 0.5
DEATHS_PER_WORKER = 3
"""Workers that may die and be replaced before a study is given up: their trials fail at the second death."""


class Pool:
    """Worker processes of a study.

    Args:
        folder, storage, study: where the study is.
        size: workers.
        lease_s: see `Study`.
        warn: told in one line when a worker died and what it warned of.
    """

    def __init__(
        self, folder: Path, storage: str, study: str, size: int, lease_s: float, warn: Callable[[str], None]
    ) -> None:
        self.arguments = folder, storage, study, lease_s
        self.size, self.warn = size, warn
        self.context = multiprocessing.get_context("spawn")
        self.lines: Any = self.context.SimpleQueue()
        self.workers: list[tuple[int, BaseProcess]] = []

    def run(self, on_poll: Callable[[], None]) -> None:
        """Start the workers and wait until all are done; a dead one is replaced.

        Raises:
            StudyError: if a worker cannot go on, or too many die.
        """
        self.workers = [(place, self._start(place)) for place in range(self.size)]
        deaths = 0
        try:
            while self.workers:
                time.sleep(POLL_S)
                on_poll()
                self._speak()
                for place, process in list(self.workers):
                    if process.is_alive():
                        continue
                    self.workers.remove((place, process))
                    if process.exitcode == 0:
                        continue
                    deaths += 1
                    if deaths > DEATHS_PER_WORKER * self.size:
                        raise StudyError(f"{self.arguments[0]}: {deaths} workers died; run with --workers 1 to see why")
                    self.warn(f"a worker died (exit code {process.exitcode}); another takes its place")
                    self.workers.append((place, self._start(place)))
        finally:
            for _, process in self.workers:
                process.terminate()
            for _, process in self.workers:
                process.join()
            self.workers = []

    def _start(self, place: int) -> BaseProcess:
        process = self.context.Process(
            target=_work, args=(*self.arguments, share(place, self.size), self.lines), daemon=True
        )
        process.start()
        return process

    def _speak(self) -> None:
        while not self.lines.empty():
            kind, line = self.lines.get()
            if kind == "fault":
                raise StudyError(*line.splitlines())
            self.warn(line)


def share(place: int, size: int) -> list[int]:
    """The cores of one of so many workers; with more workers than cores they take turns."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    each = max(1, len(cores) // size)
    return [cores[(place * each + i) % len(cores)] for i in range(each)]


def _joined(folder: Path, storage: str, study: str, lease_s: float) -> "Study":
    """The study; a server that is away is waited for, as the process that started this one has just spoken with it."""
    from codesign.search.study import join

    since = time.monotonic()
    while True:
        try:
            return join(folder, storage, study, lease_s)
        except StudyError:
            if time.monotonic() - since > PATIENCE_S:
                raise
            time.sleep(RETRY_S)


def _work(folder: Path, storage: str, study: str, lease_s: float, cores: Sequence[int], lines: Any) -> None:
    """A worker process: search, then confirm."""
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # gives its leases back
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before XLA counts its threads

    try:
        with _joined(folder, storage, study, lease_s).worker(warn=lambda line: lines.put(("warning", line))) as worker:
            worker.search()
            worker.confirm()
    except CodesignError as error:
        lines.put(("fault", str(error)))
    except KeyboardInterrupt:
        pass
