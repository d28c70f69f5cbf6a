"""A study: propose, cost, train what can run, remember, confirm.

Hardware first: the analytic cost takes a millisecond, so a design that cannot run, does not fit its
part or breaks a limit even in the worst case is recorded with its reason and never trained. This can
mislead where a limit holds on average but not in the worst case; such designs are refused on purpose.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import safetensors.numpy
import sqlalchemy.exc

from codesign import hardware, training
from codesign.design import Activity, Network, Recipe, digest
from codesign.errors import StudyError, TrainingError
from codesign.search.environment import environment
from codesign.search.proposals import UNFIT, Proposals
from codesign.search.records import (
    FAILED,
    PROPOSED,
    REFUSED,
    TRAINED,
    Records,
    TrainingRecord,
    TrialRecord,
)
from codesign.search.results import FrontRow, Results
from codesign.search.space import N_SAMPLES, SearchSpace

MAX_PROPOSALS_PER_TRIAL = 20  # a space of which less can run is given up


@dataclass(frozen=True)
class Progress:
    """Where a study stands.

    Attributes:
        phase: "search" or "confirm".
        done, total: trials trained and wanted; in the second phase trainings of the front.
        refused: designs that were refused without training, so far.
        front_size: members of the front.
        hypervolume: share of the box between ideal and reference that the front dominates.
    """

    phase: str
    done: int
    total: int
    refused: int
    front_size: int
    hypervolume: float


OnProgress = Callable[[Progress], None]


def _silent(_: Progress) -> None:
    pass


class Study:
    """A search space and the folder its results go to.

    Args:
        space: from `load_search_space`.
        folder: made if missing; default results/<name of the space>.

    Raises:
        StudyError: if the folder belongs to another search space or cannot be used.

    Example:
        >>> study = Study(load_search_space("search_spaces/quickstart.toml"))  # doctest: +SKIP
        >>> study.run()  # doctest: +SKIP
        >>> for row in study.front():  # doctest: +SKIP
        ...     print(row.trial, row.error_test, row.cost["latency_s"])
    """

    def __init__(self, space: SearchSpace, folder: str | Path | None = None) -> None:
        self.space = space
        self.folder = Path(folder) if folder is not None else Path("results") / space.name
        training.splits(space.task)  # where data are missing or wrong, no folder is made
        with self._guard():
            (self.folder / "weights").mkdir(parents=True, exist_ok=True)
            with self._lock():
                self.records = Records(self.folder, create=True)
                self._check_fingerprint()
                _write(self.folder / "search_space.toml", space.text.encode())
                self.records.set("environment", environment())
                self.records.set("name", space.name)
                self.records.set("data", space.task.data_version())
                if self.records.get("box") is None:
                    self.records.set("box", self._box())
                self.proposals = Proposals(space, self.records)
        self.results = Results(self.folder)

    def run(self, on_progress: OnProgress = _silent) -> None:
        """Search until the wanted number of trials is trained, then confirm the front.

        Takes up what an earlier run left unfinished. May be interrupted at any moment.
        """
        with self._guard(), self._lock():
            for trial in self.proposals.unfinished():
                self._evaluate(trial)
            wanted = self.space.settings.trials
            while (done := self._count(TRAINED)) < wanted:
                on_progress(self._progress("search", done, wanted))
                if len(self.records.trials()) >= MAX_PROPOSALS_PER_TRIAL * wanted:
                    raise StudyError(
                        f"{self.folder}: only {done} of {MAX_PROPOSALS_PER_TRIAL * wanted} proposed designs "
                        "could be trained; widen the limits or the space"
                    )
                self._evaluate(self.proposals.ask())
            on_progress(self._progress("search", done, wanted))
            self._confirm(on_progress)

    def confirm(self, on_progress: OnProgress = _silent) -> None:
        """Train every member of the front with all seeds, then look at the test data once."""
        with self._guard(), self._lock():
            self._confirm(on_progress)

    def front(self) -> list[FrontRow]:
        """The non-dominated designs, best error first."""
        return self.results.front()

    def _evaluate(self, trial: optuna.Trial) -> None:
        design, recipe = self.proposals.design(trial)
        cost = self.space.cost(design)
        violations = self._violations(cost)
        self.proposals.constrain(trial, violations)
        reasons = [*cost.reasons(), *self._broken_limits(cost)]
        record = TrialRecord(
            number=trial.number,
            state=REFUSED if reasons else PROPOSED,
            design=design.model_dump(mode="json"),
            recipe=recipe.model_dump(mode="json"),
            network_key=self._network_key(design.network, recipe),
            reasons=reasons,
            cost=cost.row(),
        )
        self.records.put_trial(record)
        if reasons:
            self.proposals.refuse(trial, [1.0, *self._costs(cost)])
            return
        try:
            run = self._trained(design.network, recipe, record.network_key, self.space.settings.seed)
        except TrainingError as error:
            self.records.put_trial(replace(record, state=FAILED, reasons=[str(error)]))
            self.proposals.fail(trial)
            return
        measured = self.space.cost(design, _activity(run))
        self.records.put_trial(replace(record, state=TRAINED, cost=measured.row()))
        self.proposals.tell(trial, [run.metrics["error"], *self._costs(measured)])

    def _trained(self, network: Network, recipe: Recipe, key: str, seed: int) -> TrainingRecord:
        """The training of a network with a seed: remembered, or run now."""
        known = self.records.trainings().get((key, seed))
        if known is not None and self.results.weights_path(key, seed).exists():
            return known
        trained = training.train([network], recipe, self.space.task, [seed])[0]
        model = training.restore(network, self.space.task, seed, trained.weights)
        evaluation = training.evaluate(model, self.space.task, "validation")
        _write(self.results.weights_path(key, seed), safetensors.numpy.save(trained.weights))
        record = TrainingRecord(
            network_key=key,
            seed=seed,
            metrics=evaluation.metrics,
            activity=json.loads(json.dumps(evaluation.activity)),
            losses=list(trained.losses),
            seconds=trained.seconds,
            test_metrics=None,
        )
        self.records.put_training(record)
        return record

    def _confirm(self, on_progress: OnProgress) -> None:
        first = self.space.settings.seed
        seeds = range(first, first + self.space.settings.confirm_seeds)
        members = {row.network_key: row for row in self.results.candidates()}
        jobs = [(row, seed) for row in members.values() for seed in seeds]
        for done, (row, seed) in enumerate(jobs):
            on_progress(self._progress("confirm", done, len(jobs)))
            try:
                run = self._trained(row.design.network, row.recipe, row.network_key, seed)
            except TrainingError as error:
                self._discard(row.network_key, f"seed {seed}: {error}")
                continue
            if run.test_metrics is None:
                weights = self.results.weights(row.network_key, seed)
                model = training.restore(row.design.network, self.space.task, seed, weights)
                test = training.evaluate(model, self.space.task, "test").metrics
                self.records.put_training(replace(run, test_metrics=test))
        on_progress(self._progress("confirm", len(jobs), len(jobs)))

    def _discard(self, network_key: str, reason: str) -> None:
        """A network that some seed cannot train leaves the front; the next run trains another."""
        for trial in self.records.trials():
            if trial.network_key == network_key and trial.state == TRAINED:
                self.records.put_trial(replace(trial, state=FAILED, reasons=[reason]))

    def _violations(self, cost: hardware.Cost) -> dict[str, float]:
        """Every constraint, in one order, scaled to its budget: feasible where <= 0."""
        row = cost.row()
        part = hardware.TECHNOLOGIES[str(cost.facts["technology"])]
        budgets = {name: getattr(part, name, None) for name in ("lut", "ff", "dsp", "bram18")}
        violations = {"runs": UNFIT if cost.reasons() else 0.0}
        for name, budget in [*budgets.items(), *self.space.limits.items()]:
            used = row.get(name)
            violations[name if name in budgets else f"limit {name}"] = (
                used / budget - 1.0 if used is not None and budget else 0.0
            )
        return violations

    def _broken_limits(self, cost: hardware.Cost) -> list[str]:
        row = cost.row()
        used = {name: row[name] for name in self.space.limits}
        return [
            f"{name} = {value:.4g} {hardware.COST_FIELDS[name]} exceeds the limit {self.space.limits[name]:.4g}"
            for name, value in used.items()
            if value is not None and value > self.space.limits[name]
        ]

    def _costs(self, cost: hardware.Cost) -> list[float]:
        row = cost.row()
        return [float(row[name] or 0.0) for name in self.space.objectives[1:]]

    def _network_key(self, network: Network, recipe: Recipe) -> str:
        return digest(network, recipe, self.space.task.identity(), self.space.task.checksum(), training.VERSION)

    def _count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.records.trials())

    def _progress(self, phase: str, done: int, total: int) -> Progress:
        front = self.results.candidates()
        return Progress(phase, done, total, self._count(REFUSED), len(front), self.results.hypervolume(front))

    def _box(self) -> dict[str, list[float]]:
        """Corners of the hypervolume's box, fixed when the study is made: zero error and the smallest
        cost of random feasible designs; the trivial error and their largest (costs in log10)."""
        rng = np.random.default_rng(0)
        sampled = [self.space.cost(self.space.sample(rng)[0]) for _ in range(N_SAMPLES)]
        costs = np.log10([np.maximum(self._costs(c), 1e-30) for c in sampled if bool(c.feasible[0])])
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
        before = self.records.get("fingerprint")
        if before is None:
            self.records.set("fingerprint", now)
        elif before != now:
            raise StudyError(
                f"{self.folder}: holds a study of another search space ({'; '.join(_differences(before, now))}); "
                "use another folder with --to, or restore the search space"
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time; the system drops the lock if the process dies."""
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(f"{self.folder}: another process is working on this study") from None
            yield

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Faults of disk and database as one line; what is stored stays stored."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.folder
            raise StudyError(f"{where}: {error.strerror}; repair this, then run the same command again") from error
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.DatabaseError) as error:
            cause = str(error.__cause__ or error).splitlines()[0]
            raise StudyError(f"{self.folder}: {cause}; repair this, then run the same command again") from error


def _activity(run: TrainingRecord) -> Activity:
    return tuple(
        {int(streams): {int(block): shares for block, shares in found.items()} for streams, found in layer.items()}
        for layer in run.activity
    )


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
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
