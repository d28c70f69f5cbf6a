"""A study: a search space, the folder its results go to, and the workers that run it."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy.exc

from codesign import hardware, training
from codesign.errors import StudyError
from codesign.search.artifacts import Artifacts
from codesign.search.environment import environment
from codesign.search.leases import TIMEOUT_S, Leases
from codesign.search.pool import Pool
from codesign.search.proposals import Proposals, stored_study
from codesign.search.records import REFUSED, STOPPED, TRAINED, Records
from codesign.search.results import FrontRow, Results
from codesign.search.samplers import require
from codesign.search.server import CutOff
from codesign.search.space import N_SAMPLES, SearchSpace
from codesign.search.worker import Worker


@dataclass(frozen=True)
class Progress:
    """Where a study stands.

    Attributes:
        phase: "search" or "confirm".
        done, total: trials trained or stopped and wanted; in the second phase trainings of the front.
        refused: designs that were refused without training, so far.
        stopped: trainings that were stopped at a rung, so far.
        front_size: members of the front.
        hypervolume: share of the box between ideal and reference that the front dominates.
        enough: what the last trainings gained, in a sentence; None before that can be said.
    """

    phase: str
    done: int
    total: int
    refused: int
    stopped: int
    front_size: int
    hypervolume: float
    enough: str | None = None


OnProgress = Callable[[Progress], None]
Warn = Callable[[str], None]


def _silent(_: Any) -> None:
    pass


class Study:
    """A search space and the folder its results go to.

    Args:
        space: from `load_search_space`.
        folder: made if missing; default results/<name of the space>.
        storage: URL of SQLAlchemy for the tables, for instance a PostgreSQL server; default: SQLite in the folder.
        artifacts: s3://BUCKET for weights and checkpoints; default: the folder.
        lease_s: after which a worker that shows no life is thought dead.
        joins: whether this is one more worker of a study that another process runs.

    Raises:
        StudyError: if the folder belongs to another search space or cannot be used.

    Example:
        >>> study = Study(load_search_space("search_spaces/quickstart.toml"))  # doctest: +SKIP
        >>> study.run()  # doctest: +SKIP
        >>> for row in study.front():  # doctest: +SKIP
        ...     print(row.trial, row.error_test, row.cost["latency_s"])
    """

    def __init__(
        self,
        space: SearchSpace,
        folder: str | Path | None = None,
        storage: str | None = None,
        artifacts: str | None = None,
        lease_s: float = TIMEOUT_S,
        joins: bool = False,
    ) -> None:
        self.space, self.lease_s = space, lease_s
        self.folder = Path(folder) if folder is not None else Path("results") / space.name
        require(space.settings.sampler)
        training.splits(space.task)  # where data are missing or wrong, no folder is made
        Artifacts(self.folder, artifacts).check()  # nor where this is no address
        with self._guard():
            self.folder.mkdir(parents=True, exist_ok=True)
            with nullcontext() if joins else self._lock():
                self.records = Records(self.folder, create=not joins, url=storage, study=space.name)
                self._check_fingerprint()
                if not joins:
                    self._state_facts(artifacts)
                self.proposals = Proposals(space, self.records, stored_study(space, self.records))
        self.results = Results(self.folder, self.records.url, space.name)
        self.results.records.engine.dispose()
        self.results.records = self.records  # one pool of connections, one wait when the server is away

    def run(self, on_progress: OnProgress = _silent, warn: Warn = _silent, workers: int = 1) -> None:
        """Search until the wanted number of trials is trained, then confirm the front.

        Takes up what an earlier run left unfinished. May be interrupted at any moment. With one worker the same
        seed gives the same study; several share the cores of this machine, and finish trials in any order.

        Args:
            on_progress: told where the study stands after every trial.
            warn: told in one line what was damaged and is done again.
            workers: processes; 1 is this one.
        """
        with self._guard(), self._lock():
            if workers == 1:
                with self.worker(on_progress, warn) as worker:
                    worker.search()
                    worker.confirm()
                return
            self.records.server.warn = warn
            told: list[Progress] = []

            def poll() -> None:
                counts = self.records.count_trials()
                searching = counts[TRAINED] + counts[STOPPED] < self.space.settings.trials
                now = self.progress("search" if searching else "confirm")
                if told[-1:] != [now]:
                    told[:] = [now]
                    on_progress(now)

            Pool(self.folder, self.records.url, self.space.name, workers, self.lease_s, warn).run(poll)
            poll()

    def work(self, on_progress: OnProgress = _silent, warn: Warn = _silent) -> None:
        """Work on a study that another process runs until nothing is left to be done."""
        with self.worker(on_progress, warn) as worker:
            worker.search()
            worker.confirm()

    def confirm(self, on_progress: OnProgress = _silent, warn: Warn = _silent) -> None:
        """Train every member of the front with all seeds, then look at the test data once."""
        with self._guard(), self._lock(), self.worker(on_progress, warn) as worker:
            worker.confirm()

    def front(self) -> list[FrontRow]:
        """The non-dominated designs, best error first."""
        return self.results.front()

    @contextmanager
    def worker(self, on_progress: OnProgress = _silent, warn: Warn = _silent) -> Iterator[Worker]:
        """One worker of the study, which gives back what it holds when it ends."""
        self.records.server.warn = warn
        self.results.artifacts.check()
        with self._guard(), Leases(self.records, self.lease_s) as leases:
            yield Worker(
                self.space, self.results, self.proposals, leases, lambda phase: on_progress(self.progress(phase)), warn
            )

    def progress(self, phase: str) -> Progress:
        """Where the study stands."""
        counts, front = self.records.count_trials(), self.results.candidates()
        done, total = counts[TRAINED] + counts[STOPPED], self.space.settings.trials
        if phase == "confirm":
            keys = {row.network_key for row in front}
            runs = self.records.trainings()
            done = sum(key in keys and run.test_metrics is not None for (key, _), run in runs.items())
            total = len(keys) * self.space.settings.confirm_seeds
        return Progress(
            phase=phase,
            done=done,
            total=total,
            refused=counts[REFUSED],
            stopped=counts[STOPPED],
            front_size=len(front),
            hypervolume=self.results.hypervolume(front),
            enough=self.results.enough(),
        )

    def _state_facts(self, artifacts: str | None) -> None:
        """What readers and other workers need to know; what the first process decided holds for all."""
        text = self.space.text
        if self.records.get("search_space") != text:
            self.records.set("search_space", text)
        _write(self.folder / "search_space.toml", text.encode())
        self.records.settle("starts", list(self.space.starts))
        self.records.settle("artifacts", artifacts)
        self.records.set("environment", environment())
        self.records.set("data", self.space.task.data_version())
        if self.records.get("box") is None:
            self.records.settle("box", self._box())
        self.records.storage.remember()  # last: workers that share the folder wait for this file

    def _box(self) -> dict[str, list[float]]:
        """Corners of the hypervolume's box, fixed when the study is made: zero error and the smallest
        cost of random feasible designs; the trivial error and their largest (costs in log10)."""
        rng = np.random.default_rng(0)
        sampled = [self.space.cost(self.space.sample(rng)[0]) for _ in range(N_SAMPLES)]
        names = self.space.objectives[1:]
        rows = [cost.row() for cost in sampled if bool(cost.feasible[0])]
        costs = np.log10([[max(float(row[name] or 0.0), 1e-30) for name in names] for row in rows])
        splits = training.splits(self.space.task)
        trivial = self.space.task.trivial_error(splits.train, splits.validation)
        return {"ideal": [0.0, *costs.min(0).tolist()], "reference": [trivial, *costs.max(0).tolist()]}

    def _check_fingerprint(self) -> None:
        now = json.loads(
            json.dumps(
                {
                    **self.space.identity(),
                    "data": self.space.task.checksum(),
                    "cost model version": hardware.VERSION,
                    "training version": training.VERSION,
                }
            )
        )
        before = self.records.settle("fingerprint", now)
        if before != now:
            raise StudyError(
                f"{self.folder}: holds a study of another search space ({'; '.join(_differences(before, now))}); "
                "use another folder with --to, or restore the search space"
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One search at a time in a folder, beside any number of workers; the system drops a dead process's lock."""
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(
                    f"{self.folder}: another search is working on this study; codesign worker {self.folder} joins it"
                ) from None
            yield

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Faults of disk and database as one line; what is stored stays stored."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.folder
            raise StudyError(f"{where}: {error.strerror}; repair this, then run the same command again") from error
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.DBAPIError, CutOff) as error:
            cause = str(error.__cause__ or error).splitlines()[0]
            raise StudyError(f"{self.folder}: {cause}; repair this, then run the same command again") from error


def join(folder: str | Path, storage: str | None = None, study: str | None = None, lease_s: float = TIMEOUT_S) -> Study:
    """A study that was begun elsewhere, for one more worker.

    Args:
        folder: of results, or on another machine any folder.
        storage: URL of its database; default: what the folder says.
        study: its name there, where the database holds several.

    Raises:
        StudyError: if there is no such study.
    """
    results = Results(folder, storage, study)
    return Study(results.space, folder, results.records.url, lease_s=lease_s, joins=True)


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line
            for key in keys
            for line in _differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == now else [f"{path} was {before}, is {now}"]


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a reader never sees half a file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
