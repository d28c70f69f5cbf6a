"""Trainings of a study: from rung to rung, side by side where they share a program, written down as they go.

What is known of a training stands in its record, and its state in a checkpoint, so that any worker can take it on
where another left it. Weights and checkpoints are stored before they are recorded: what is recorded is there.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import safetensors.numpy

from codesign import training
from codesign.design import Network, Recipe
from codesign.errors import DataError, TrainingError
from codesign.search.artifacts import Artifacts
from codesign.search.leases import SECOND_DEATH, Leases
from codesign.search.records import (
    FAILED,
    STOPPED,
    TRAINED,
    LeaseLost,
    Records,
    TrainingRecord,
    training_item,
)
from codesign.tasks import Task
from codesign.training import Checkpoint

CHECKPOINT_S = 60.0
"""Seconds between two checkpoints, which are made at the end of an epoch; a killed process loses what came after."""

WAIT_S = 0.3
"""Between two looks at what others do."""


@dataclass(frozen=True)
class Job:
    """A network to be trained with a seed.

    Attributes:
        key: names the network in the study.
        network, recipe, seed: what is trained.
        budgets: epochs at which it may be stopped, and in the end all of them.
        parent: key of the dense parent that it shares with others; None where it has none or trains its own.
    """

    key: str
    network: Network
    recipe: Recipe
    seed: int
    budgets: tuple[int, ...]
    parent: str | None = None

    @property
    def item(self) -> str:
        """Its name among leases."""
        return training_item(self.key, self.seed)


class Trainer:
    """Trains jobs whose leases its worker holds.

    Args:
        task: what is learned.
        records, artifacts: of the study.
        leases: of the worker.
        judge: asked at a rung: why a job goes no further, or None.
        warn: told in one line what was damaged and done again.
    """

    def __init__(
        self,
        task: Task,
        records: Records,
        artifacts: Artifacts,
        leases: Leases,
        judge: Callable[[Job, int], str | None],
        warn: Callable[[str], None],
    ) -> None:
        self.task, self.records, self.artifacts, self.leases = task, records, artifacts, leases
        self.judge, self.warn = judge, warn

    def claim(self, job: Job) -> bool:
        """Take the lease of a job; one over which workers have died again and again fails instead."""
        deaths = self.leases.claim(job.item)
        if deaths is None:
            return False
        if deaths < SECOND_DEATH or self._known(job).ended:
            return True
        reason = f"{deaths} workers died while they trained it, perhaps for lack of memory"
        self._write(job, replace(self._known(job), state=FAILED, reason=reason))
        self.leases.release(job.item)
        return False

    def run(self, jobs: Sequence[Job]) -> None:
        """Train jobs until each is trained, stopped or failed, or taken over by another worker."""
        for job in jobs:
            if job.parent is not None:
                self._train_parent(job)
        going = {job.item: (job, self._resume(job)) for job in jobs}
        for rung in range(max((len(job.budgets) for job in jobs), default=0)):
            for group in self._groups(list(going.values()), rung):
                for job, _ in group:
                    del going[job.item]
                for job, checkpoint in self._advance(group, rung):
                    if not self._has_ended(job, rung):
                        going[job.item] = job, checkpoint

    def _has_ended(self, job: Job, rung: int) -> bool:
        """Whether nothing is left to be done on a job; a rung's verdict is final and written down."""
        if rung == len(job.budgets) - 1:
            return True
        verdict = self.judge(job, rung)
        if verdict is None:
            return False
        record = self._known(job)
        self._write(job, replace(record, state=STOPPED, reason=verdict, checkpoint=None))
        if record.checkpoint is not None:
            self.artifacts.remove(record.checkpoint)
        return True

    def _groups(self, going: list[tuple[Job, Checkpoint]], rung: int) -> list[list[tuple[Job, Checkpoint]]]:
        """Jobs of one program and equally far, in groups whose sizes are powers of two: each size compiles once."""
        if len(going) == 1:
            return [going]
        buckets: dict[str, list[tuple[Job, Checkpoint]]] = {}
        for job, checkpoint in going:
            program = training.compile_key(job.network, self.task, job.seed)
            alike = f"{program} {job.recipe.model_dump_json()} {checkpoint.epochs} {job.budgets}"
            buckets.setdefault(alike, []).append((job, checkpoint))
        groups = []
        for bucket in buckets.values():
            start = 0
            while start < len(bucket):
                size = 1 << ((len(bucket) - start).bit_length() - 1)
                groups.append(bucket[start : start + size])
                start += size
        return groups

    def _advance(self, group: list[tuple[Job, Checkpoint]], rung: int) -> list[tuple[Job, Checkpoint]]:
        """Jobs taken to a rung and written down there; those that broke or were taken over are left out."""
        goal = group[0][0].budgets[rung]
        jobs, before = [job for job, _ in group], [checkpoint for _, checkpoint in group]
        saved = time.monotonic()

        def on_epoch(epochs: int, now: Callable[[], list[Checkpoint]]) -> None:
            nonlocal saved
            if epochs < goal and time.monotonic() - saved > CHECKPOINT_S:
                for job, checkpoint in zip(jobs, now(), strict=True):
                    self._keep(job, checkpoint)
                saved = time.monotonic()

        try:
            found = list(zip(jobs, training.advance(before, self.task, goal, on_epoch), strict=True))
            for job, checkpoint in found:
                self._reached(job, checkpoint)
            return found
        except (TrainingError, MemoryError, RuntimeError) as error:
            fault = _fault(error)
            if fault is None:
                raise
            if len(group) > 1:  # one of them broke: each by itself tells which
                return [pair for one in group for pair in self._advance([one], rung)]
            self._write(jobs[0], replace(self._known(jobs[0]), state=FAILED, reason=fault))
        except LeaseLost as lost:
            self.leases.forget(str(lost))
            if len(group) > 1:
                return [pair for one in group if one[0].item != str(lost) for pair in self._advance([one], rung)]
        return []

    def _resume(self, job: Job) -> Checkpoint:
        """Where a training stands: at its last checkpoint, behind its parent, or at its start."""
        record = self._known(job)
        if record.checkpoint is not None:
            try:
                content = self.artifacts.get(record.checkpoint)
                return training.from_bytes(content, job.network, job.recipe, self.task, job.seed)
            except DataError as error:
                self.warn(f"{error}; this training begins again")
        parent = None if job.parent is None else self.records.training(job.parent, job.seed)
        if parent is None or parent.state != TRAINED:
            return training.begin(job.network, job.recipe, job.seed)
        weights = safetensors.numpy.load(self.artifacts.get(str(parent.weights)))
        return training.begin(job.network, job.recipe, job.seed, (weights, parent.losses))

    def _train_parent(self, job: Job) -> None:
        """The dense parent of a job, unless it is there; while another worker trains it, wait."""
        found = training.parent_of(job.network, job.recipe)
        assert found is not None and job.parent is not None
        parent = Job(job.parent, *found, job.seed, (found[1].total_epochs,))
        while not self._is_there(parent):
            if self.claim(parent):
                break
            time.sleep(WAIT_S)
        try:
            if not self._is_there(parent):  # its holder may have ended it just before the claim
                self._advance([(parent, self._resume(parent))], 0)
        finally:
            if parent.item in self.leases.held:
                self.leases.release(parent.item)

    def _is_there(self, job: Job) -> bool:
        record = self._known(job)
        return record.ended and (record.state != TRAINED or self.artifacts.intact(record.weights))

    def _reached(self, job: Job, checkpoint: Checkpoint) -> None:
        """Write a rung down, or the end."""
        before = self._known(job)
        trained = training.trained(checkpoint, self.task)
        model = training.restore(job.network, self.task, job.seed, trained.weights)
        evaluation = training.evaluate(model, self.task, "validation")
        rungs = tuple(rung for rung in before.rungs if rung[0] < checkpoint.epochs)
        rungs += ((checkpoint.epochs, evaluation.metrics["error"]),)
        if checkpoint.epochs < job.recipe.total_epochs:
            self._keep(job, checkpoint, rungs)
            return
        name = self.artifacts.put(f"{job.key}-{job.seed}", safetensors.numpy.save(trained.weights))
        record = replace(
            self._progress(job, checkpoint),
            rungs=rungs,
            state=TRAINED,
            checkpoint=None,
            weights=name,
            metrics=evaluation.metrics,
            activity=json.loads(json.dumps(evaluation.activity)),
        )
        self._write(job, record)
        if before.checkpoint is not None:
            self.artifacts.remove(before.checkpoint)

    def _keep(self, job: Job, checkpoint: Checkpoint, rungs: tuple[tuple[int, float], ...] | None = None) -> None:
        """Store a checkpoint and forget the one before."""
        before = self._known(job)
        name = self.artifacts.put(f"{job.key}-{job.seed}-epoch{checkpoint.epochs}", training.to_bytes(checkpoint))
        rungs = before.rungs if rungs is None else rungs
        self._write(job, replace(self._progress(job, checkpoint), rungs=rungs, checkpoint=name))
        if before.checkpoint not in (None, name):
            self.artifacts.remove(str(before.checkpoint))

    def _progress(self, job: Job, checkpoint: Checkpoint) -> TrainingRecord:
        """The record of a job with what was spent until a checkpoint; a shared parent's steps stand in its own."""
        shared = job.recipe.dense_epochs if job.parent is not None else 0
        steps = (checkpoint.epochs - shared) * training.steps_per_epoch(job.recipe, self.task)
        return replace(
            self._known(job),
            epochs=checkpoint.epochs,
            steps=steps,
            losses=checkpoint.losses,
            seconds=checkpoint.seconds,
        )

    def _known(self, job: Job) -> TrainingRecord:
        return self.records.training(job.key, job.seed) or TrainingRecord(job.key, job.seed)

    def _write(self, job: Job, record: TrainingRecord) -> None:
        self.records.put_training(record, self.leases.owner)


def _fault(error: Exception) -> str | None:
    """What a training died of, in words; None for what is no fault of the training."""
    if isinstance(error, TrainingError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "there was not enough memory to train it; use a smaller recipe.batch_size or network.hidden"
    return None
