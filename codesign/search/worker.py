"""A worker: takes trials, costs them, has them trained, and tells what came of it.

Any number of workers share a study: in one process, in several, on several machines. Each holds leases on what it
works on (`leases.py`); all they know of each other stands in the study's tables. What becomes of a trial:

    proposed -> refused                        by its cost, before it is trained
    proposed -> stopped, trained or failed     as its training was
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import optuna
from optuna.trial import BaseTrial

from codesign import hardware, training
from codesign.design import Design, Network, Recipe, digest
from codesign.errors import StudyError
from codesign.hardware import Cost
from codesign.search.front import Points
from codesign.search.leases import Leases
from codesign.search.proposals import UNFIT, Proposals
from codesign.search.records import (
    FAILED,
    PROPOSED,
    REFUSED,
    STOPPED,
    TRAINED,
    LeaseLost,
    TrainingRecord,
    TrialRecord,
    training_item,
    trial_item,
)
from codesign.search.results import Results, activity_of
from codesign.search.rungs import budgets, goes_on
from codesign.search.space import SearchSpace
from codesign.search.trainings import WAIT_S, Job, Trainer

MAX_PROPOSALS_PER_TRIAL = 20
"""A space of which fewer designs can run is given up."""

ASKING = "asking"
"""What a worker holds while it asks for a trial, so that several never ask for more than are wanted."""


class Worker:
    """One worker of a study.

    Args:
        space: of the study.
        results: of the study.
        proposals: of the study.
        leases: of this worker, entered.
        on_progress: called with the phase whenever a trial or a training has ended.
        warn: told in one line what was damaged and done again.
    """

    def __init__(
        self,
        space: SearchSpace,
        results: Results,
        proposals: Proposals,
        leases: Leases,
        on_progress: Callable[[str], None] = lambda phase: None,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.space, self.results, self.proposals, self.leases = space, results, proposals, leases
        self.records, self.settings, self.on_progress = results.records, space.settings, on_progress
        self._grid_costs: dict[str, list[dict[str, float | int | None]]] = {}
        self.trainer = Trainer(space.task, self.records, results.artifacts, leases, self._judge, warn)

    def search(self) -> None:
        """Work until the wanted number of designs is trained, by this worker and others.

        Raises:
            StudyError: if hardly any design of the space can run, or the storage fails.
        """
        self.on_progress("search")
        while True:
            self._settle()
            batch = self._take()
            if batch:
                self._work(batch)
            elif not self.records.count_trials()[PROPOSED] and not self._wanted():
                return
            else:
                time.sleep(WAIT_S)

    def confirm(self) -> None:
        """Train every member of the front with all seeds, then look at the test data once."""
        first = self.settings.seed
        seeds = range(first, first + self.settings.confirm_seeds)
        members = {row.network_key: row for row in self.results.candidates()}
        jobs = [
            Job(
                row.network_key,
                row.design.network,
                row.recipe,
                seed,
                (row.recipe.total_epochs,),
                self._parent_key(row.design.network, row.recipe),
            )
            for row in members.values()
            for seed in seeds
        ]
        while waiting := [job for job in jobs if not self._is_confirmed(job)]:
            self.on_progress("confirm")
            mine: list[Job] = []
            for job in waiting:
                if len(mine) < self.settings.population and self.trainer.claim(job):
                    mine.append(job)
            if not mine:
                time.sleep(WAIT_S)
            try:
                self.trainer.run([job for job in mine if not self._is_there(job)])  # lost weights come out the same
                for job in mine:
                    self._test(job)
            except LeaseLost as lost:  # slept too long: somebody else does it
                self.leases.forget(str(lost))
            finally:
                self._release(mine)
        self.on_progress("confirm")

    def _is_confirmed(self, job: Job) -> bool:
        record = self._known(job)
        if record.state == FAILED:
            self._discard(job, str(record.reason))
            return True
        return record.test_metrics is not None and self._is_there(job)

    def _is_there(self, job: Job) -> bool:
        record = self._known(job)
        return record.state == FAILED or (record.state == TRAINED and self.results.artifacts.intact(record.weights))

    def _test(self, job: Job) -> None:
        record = self._known(job)
        if record.state != TRAINED or record.test_metrics is not None:
            return
        weights = self.results.weights(job.key, job.seed)
        model = training.restore(job.network, self.space.task, job.seed, weights)
        test = training.evaluate(model, self.space.task, "test").metrics
        self.records.put_training(replace(record, test_metrics=test), self.leases.owner)

    def _discard(self, job: Job, reason: str) -> None:
        """A network that some seed cannot train leaves the front; the next run trains another."""
        for trial in self.records.trials(TRAINED, job.key):
            self.records.put_trial(replace(trial, state=FAILED, reasons=[f"seed {job.seed}: {reason}"]))

    # ------------------------------------------------------------------ taking trials

    def _take(self) -> list[TrialRecord]:
        """Trials to work on: those that nobody alive holds, then new ones."""
        taken: list[TrialRecord] = []
        for trial in self._left_lying(self.records.trials(PROPOSED)):
            if len(taken) < self.settings.population and self._claim(trial.number, PROPOSED):
                taken.append(trial)
        while len(taken) < self.settings.population and self._wanted():
            if self.leases.claim(ASKING) is None:
                if taken:
                    break
                time.sleep(WAIT_S / 10)
                continue
            try:
                if self._wanted():
                    taken += self._ask()
            finally:
                self.leases.release(ASKING)
        return taken

    def _ask(self) -> list[TrialRecord]:
        """A new trial, or one whose asker died right then; it, if it is to be trained."""
        unknown = [number for number in self.proposals.running() if self.records.state(number) is None]
        lying = self.leases.free([trial_item(number) for number in unknown])
        asked = self.proposals.take_up(int(lying[0].split()[-1])) if lying else self.proposals.ask()
        return self._propose(asked) if self._claim(asked.number, None) else []

    def _claim(self, number: int, state: str | None) -> bool:
        """Take a trial that was seen in a state, unless its holder has gone on with it since."""
        if self.leases.claim(trial_item(number)) is None:
            return False
        if self.records.state(number) != state:
            self.leases.release(trial_item(number))
            return False
        return True

    def _left_lying(self, waiting: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Open trials on which, and on whose trainings, nobody alive works."""
        if not waiting:
            return []
        ended = {key for key, record in self.records.trainings().items() if record.ended}
        items = {item for trial in waiting for item in (trial_item(trial.number), _training_of(trial))}
        free = set(self.leases.free(sorted(items)))
        return [
            trial
            for trial in waiting
            if trial_item(trial.number) in free
            and (_training_of(trial) in free or (trial.network_key, trial.seed) in ended)
        ]

    def _wanted(self) -> bool:
        """Whether more trials are wanted than are trained or being trained."""
        counts, wanted = self.records.count_trials(), self.settings.trials
        trained = counts[TRAINED] + counts[STOPPED]
        if trained + counts[PROPOSED] >= wanted or self.proposals.exhausted():
            return False
        if self.settings.stop_when_flat and self.results.is_flat():
            return False
        if sum(counts.values()) >= MAX_PROPOSALS_PER_TRIAL * wanted:
            raise StudyError(
                f"{self.results.folder}: only {trained} of {MAX_PROPOSALS_PER_TRIAL * wanted} proposed designs "
                "could be trained; widen the limits or the space"
            )
        return True

    def _propose(self, trial: BaseTrial) -> list[TrialRecord]:
        """Cost a new trial and write it down; it, if it is to be trained."""
        design, recipe = self.proposals.design(trial)
        cost = self.space.cost(design)
        reasons = [*cost.reasons(), *self._broken_limits(cost)]
        if isinstance(trial, optuna.Trial):
            if reasons and self._may_move and (near := self.results.grid.nearest(design, self.space.limits)):
                design = Design(network=design.network, accelerator=near)
                self.proposals.move(trial, near)
                cost, reasons = self.space.cost(design), []
            if not self.proposals.put(trial, self._violations(cost)):
                self.leases.release(trial_item(trial.number))
                return []
        key = self._network_key(design.network, recipe, trial.number)
        record = TrialRecord(
            number=trial.number,
            state=REFUSED if reasons and self.settings.hardware_first else PROPOSED,
            design=design.model_dump(mode="json"),
            recipe=recipe.model_dump(mode="json"),
            network_key=key,
            seed=self._seed_for(design, key),
            reasons=reasons,
            cost=cost.row(),
        )
        try:
            if record.state == REFUSED:
                self._finish(record)
                return []
            self.records.put_trial(record, self.leases.owner)
        except LeaseLost as lost:
            self.leases.forget(str(lost))
            return []
        return [record]

    @property
    def _may_move(self) -> bool:
        """Whether the accelerator that was proposed hardly matters; the path of E-RNN names its own."""
        settings = self.settings
        return settings.hardware_first and settings.every_accelerator and settings.sampler != "ernn"

    def _seed_for(self, design: Design, key: str) -> int:
        """The search's own seed; a design that was trained before buys its network the next one."""
        first, plain = self.settings.seed, design.model_dump(mode="json")
        before = [trial for trial in self.records.trials(TRAINED, key) if trial.design == plain]
        return first + min(len(before), self.settings.confirm_seeds - 1)

    # ------------------------------------------------------------------ working on them

    def _work(self, batch: Sequence[TrialRecord]) -> None:
        """Have the trainings done that trials wait for, and finish the trials."""
        jobs: list[Job] = []
        for trial in batch:
            job = self._job(trial)
            if not self._known(job).ended and self.trainer.claim(job):
                jobs.append(job)
        try:
            self.trainer.run([job for job in jobs if not self._known(job).ended])  # by its holder, before the claim
        finally:
            self._release(jobs)
        for trial in batch:
            record = self._known(self._job(trial))
            try:
                if record.ended:
                    self._conclude(trial, record)
                else:  # another worker trains it
                    self.leases.release(trial_item(trial.number))
            except LeaseLost as lost:
                self.leases.forget(str(lost))
            self.on_progress("search")

    def _job(self, trial: TrialRecord) -> Job:
        network = Design.model_validate(trial.design).network
        recipe = Recipe.model_validate(trial.recipe)
        n_rungs = 0 if self.settings.sampler == "ernn" else self.settings.rungs  # its path compares whole trainings
        epochs = budgets(recipe.epochs, n_rungs, self.settings.reduction)
        if trial.seed != self.settings.seed:  # one more seed of a network that has passed all rungs
            epochs = epochs[-1:]
        before = recipe.total_epochs - recipe.epochs  # phases before the last train another network
        at = tuple(before + n for n in epochs)
        return Job(trial.network_key, network, recipe, trial.seed, at, self._parent_key(network, recipe))

    def _conclude(self, trial: TrialRecord, record: TrainingRecord) -> None:
        """What became of a training becomes of the trial."""
        if record.state != TRAINED:
            self._finish(replace(trial, state=record.state, reasons=[str(record.reason)]))
            return
        design = Design.model_validate(trial.design)
        cost = self.space.cost(design, activity_of(record)).row()
        self._finish(replace(trial, state=TRAINED, cost=cost))
        self.records.add_event(self.results.hypervolume(self.results.candidates()))

    def _finish(self, trial: TrialRecord) -> None:
        """Write down what became of a trial, then tell Optuna."""
        self.records.put_trial(trial, self.leases.owner)
        self._tell(trial)
        self.leases.release(trial_item(trial.number))

    def _settle(self) -> None:
        """Do what a worker left undone that died right after it wrote a trial down: tell Optuna, free the lease."""
        running = {trial_item(number): number for number in self.proposals.running()}
        left = self.leases.left_by_the_dead()
        if not running and not left:
            return
        for trial in self.records.trials():
            item = trial_item(trial.number)
            if item in running and trial.state != PROPOSED:
                self._tell(trial)
            if item in left and trial.state != PROPOSED and self.leases.claim(item) is not None:
                self.leases.release(item)
        for (key, seed), record in self.records.trainings().items():
            item = training_item(key, seed)
            if item in left and record.ended and self.leases.claim(item) is not None:
                self.leases.release(item)

    def _tell(self, trial: TrialRecord) -> None:
        costs = [float(trial.cost[name] or 0.0) for name in self.space.objectives[1:]]
        record = self.records.training(trial.network_key, trial.seed)
        if trial.state == TRAINED:
            assert record is not None
            self.proposals.tell(trial.number, [record.error, *costs])
        elif trial.state == STOPPED:
            assert record is not None
            self.proposals.stop(trial.number, [record.rungs[-1][1], *costs])
        elif trial.state == REFUSED:
            self.proposals.refuse(trial.number, [1.0, *costs])
        else:
            self.proposals.fail(trial.number)

    def _judge(self, job: Job, rung: int) -> str | None:
        """Why a job goes no further than a rung, or None."""
        reached = {
            key: record.rungs[rung][1]
            for (key, seed), record in self.records.trainings().items()
            if seed == self.settings.seed and len(record.rungs) > rung
        }
        costs = self._costs()
        points = {key: _with_error(error, costs[key]) for key, error in reached.items() if key in costs}
        if goes_on(points, job.key, self.settings.reduction):
            return None
        return (
            f"after {job.budgets[rung]} epochs 1 in {self.settings.reduction} or more of {len(points)} networks "
            "were better on every accelerator"
        )

    def _costs(self) -> dict[str, Points]:
        """log10 of the costs of every network that a trial stands for, by its key: (accelerators, costs)."""
        names = self.space.objectives[1:]
        proposed: dict[str, list[TrialRecord]] = {}
        for trial in self.records.trials():
            if trial.state != REFUSED:
                proposed.setdefault(trial.network_key, []).append(trial)
        found = {}
        for key, trials in proposed.items():
            if key not in self._grid_costs:
                network = Design.model_validate(trials[0].design).network
                rows = self.results.grid.costed(network, None, self.space.limits)
                self._grid_costs[key] = [row.cost for row in rows] if self.settings.every_accelerator else []
            costs = [*self._grid_costs[key], *(trial.cost for trial in trials)]
            values = np.array([[float(cost[name] or 0.0) for name in names] for cost in costs])
            found[key] = np.log10(np.maximum(values, 1e-30))
        return found

    # ------------------------------------------------------------------ small things

    def _known(self, job: Job) -> TrainingRecord:
        return self.records.training(job.key, job.seed) or TrainingRecord(job.key, job.seed)

    def _release(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.item in self.leases.held:
                self.leases.release(job.item)

    def _parent_key(self, network: Network, recipe: Recipe) -> str | None:
        parent = training.parent_of(network, recipe) if self.settings.warm_start else None
        return None if parent is None else self._network_key(*parent)

    def _network_key(self, network: Network, recipe: Recipe, trial: int | None = None) -> str:
        """What a training depends on; without `train_once` every trial's is its own."""
        alone = () if self.settings.train_once or trial is None else (trial,)
        task = self.space.task
        return digest(network, recipe, task.identity(), task.checksum(), training.VERSION, *alone)

    def _violations(self, cost: Cost) -> dict[str, float]:
        """Every constraint, in one order, scaled to its budget: feasible where <= 0."""
        row = cost.row()
        part = hardware.TECHNOLOGIES[str(cost.facts["technology"])]
        budgets_of = {name: getattr(part, name, None) for name in ("lut", "ff", "dsp", "bram18")}
        violations = {"runs": UNFIT if cost.reasons() else 0.0}
        for name, budget in [*budgets_of.items(), *self.space.limits.items()]:
            used = row.get(name)
            violations[name if name in budgets_of else f"limit {name}"] = (
                used / budget - 1.0 if used is not None and budget else 0.0
            )
        return violations

    def _broken_limits(self, cost: Cost) -> list[str]:
        row = cost.row()
        used = {name: row[name] for name in self.space.limits}
        return [
            f"{name} = {value:.4g} {hardware.COST_FIELDS[name]} exceeds the limit {self.space.limits[name]:.4g}"
            for name, value in used.items()
            if value is not None and value > self.space.limits[name]
        ]


def _with_error(error: float, costs: Points) -> Points:
    return np.column_stack([np.full(len(costs), error), costs])


def _training_of(trial: TrialRecord) -> str:
    return training_item(trial.network_key, trial.seed)
