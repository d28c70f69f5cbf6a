"""A trainer that looks trainings up: the search engine without its trainings."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from codesign.design import ACTIVITY_BATCHES, ACTIVITY_BLOCKS, Network
from codesign.search.records import STOPPED, TRAINED, TrainingRecord
from codesign.search.trainings import Job, Trainer
from codesign.search.worker import Worker


class Replayed(Trainer):
    """Stands in for the trainer of a worker, with its leases and records.

    Args:
        worker: whose trainer it replaces.
        steps_per_epoch: of the optimizer.
        errors_of: validation errors of a job after every epoch.
        seconds_of: what the whole training of a job took.
    """

    def __init__(
        self,
        worker: Worker,
        steps_per_epoch: int,
        errors_of: Callable[[Job], Sequence[float]],
        seconds_of: Callable[[Job], float] = lambda job: 0.0,
    ) -> None:
        own = worker.trainer
        super().__init__(own.task, own.records, own.artifacts, own.leases, own.judge, own.warn)
        self.steps_per_epoch, self.errors_of, self.seconds_of = steps_per_epoch, errors_of, seconds_of
        worker.trainer = self

    def run(self, jobs: Sequence[Job]) -> None:
        """Every job from rung to rung, until it is stopped or at its end."""
        for job in jobs:
            errors, total = self.errors_of(job), job.recipe.total_epochs
            for rung, epochs in enumerate(job.budgets):
                record = self._known(job)
                steps = epochs * self.steps_per_epoch
                rungs = (*record.rungs, (epochs, errors[epochs - 1]))
                seconds = self.seconds_of(job) * epochs / total
                record = replace(record, epochs=epochs, steps=steps, rungs=rungs, seconds=seconds)
                if epochs == total:
                    record = as_trained(record, job, errors)
                self._write(job, record)
                if record.state == TRAINED:
                    break
                verdict = self.judge(job, rung)
                if verdict is not None:
                    self._write(job, replace(record, state=STOPPED, reason=verdict))
                    break


def as_trained(record: TrainingRecord, job: Job, errors: Sequence[float]) -> TrainingRecord:
    """The record of a training at its end."""
    metrics, activity = {"error": errors[-1]}, [_all_active(job.network)]
    return replace(record, state=TRAINED, metrics=metrics, activity=activity, weights="-")


def _all_active(network: Network) -> dict[str, dict[str, list[float]]]:
    """The activity of a state without zeros."""
    shares = {str(block): [0.0] * -(-network.state // block) + [1.0] for block in ACTIVITY_BLOCKS}
    return {str(streams): shares for streams in ACTIVITY_BATCHES}
