"""Optuna's part: asking for a point of the space, telling what came of it."""

import logging
import math
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import optuna
from optuna.trial import TrialState

from codesign.design import Design, Recipe
from codesign.errors import StudyError
from codesign.knobs import Choice, Range, Scalar
from codesign.search.phases import Phases, key
from codesign.search.records import CREATE_TRIES, Records
from codesign.search.samplers import NEEDS_VALUES, Renewed
from codesign.search.server import again
from codesign.search.space import SearchSpace

UNFIT = 1.0  # value of a constraint that a design breaks without a measure of how far
UNFINISHED = "unfinished"
"""The constraint that a trial breaks which was stopped at a rung; set when it is told."""

logging.getLogger("optuna").setLevel(logging.WARNING)


class Proposals:
    """The Optuna study behind a search; objectives are told as error and log10 of costs."""

    def __init__(self, space: SearchSpace, records: Records) -> None:
        self.space, self.server = space, records.server
        self.phases = Phases(space) if space.settings.sampler == "ernn" else None
        self.sampler = Renewed(
            "random" if self.phases else space.settings.sampler, space.settings.seed, dict(enumerate(space.starts))
        )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        for attempt in range(CREATE_TRIES):
            try:
                storage = optuna.storages.RDBStorage(records.url, engine_kwargs=records.storage.engine_options())
                weakref.finalize(self, storage.engine.dispose)
                self.server.watch(storage.engine)
                self.study = optuna.create_study(
                    storage=storage,
                    study_name=records.study,
                    directions=["minimize"] * len(space.objectives),
                    load_if_exists=True,
                    sampler=self.sampler,
                )
                break
            except StudyError:
                raise
            except Exception as error:  # another process makes the tables: every database says so in its own way
                if attempt == CREATE_TRIES - 1:
                    raise records.fault(error) from error
                time.sleep(0.2)
        if self.study.metric_names is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                names = [name if name == "error" else f"log10 {name}" for name in space.objectives]
                self.study.set_metric_names(names)

    @again
    def running(self) -> list[int]:
        """Numbers of the trials that Optuna has not been told of."""
        return [t.number for t in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    @again
    def take_up(self, number: int) -> optuna.Trial:
        """A running trial of this or another process, under its own number."""
        (frozen,) = [t for t in self.study.get_trials(deepcopy=False) if t.number == number]
        # What ask() does after creating a trial; Optuna offers no public way to take one up again.
        return optuna.trial.Trial(self.study, frozen._trial_id)

    def ask(self) -> optuna.Trial:
        """A new trial; the caller sees to it that nobody else asks meanwhile."""
        before = set(self.running())
        asked = self._asked()
        first = min(set(self.running()) - before, default=asked.number)
        # The server made a trial, was cut off before it said so, and was asked again: the first is not to be lost.
        return asked if first == asked.number else self.take_up(first)

    @again
    def _asked(self) -> optuna.Trial:
        return self.study.ask()

    @again
    def design(self, trial: optuna.Trial) -> tuple[Design, Recipe]:
        """The point of the space that the trial stands for; asking again gives the same."""
        if self.phases is not None:
            point = self.phases.next(self._errors(trial.number))
            self.sampler.given.setdefault(trial.number, point or self.phases.first)

        def pick(name: str, node: Choice | Range) -> Scalar:
            if isinstance(node, Choice):
                return cast(Scalar, trial.suggest_categorical(name, node.values))
            if node.whole and (node.step is None or float(node.step).is_integer()):
                step = int(node.step or 1)
                return trial.suggest_int(name, int(node.low), int(node.high), step=step, log=node.log)
            return trial.suggest_float(name, node.low, node.high, step=node.step, log=node.log)

        return self.space.design(pick)

    @again
    def exhausted(self) -> bool:
        """Whether there is nothing left to propose: the phases of E-RNN come to an end."""
        return self.phases is not None and self.phases.next(self._errors(None)) is None

    def _errors(self, before: int | None) -> dict[frozenset[tuple[str, Scalar]], float]:
        """Errors of the trials so far, or of those before one; infinite where nothing was trained."""
        trials = self.study.get_trials(deepcopy=False)[:before]
        return {key(t.params): t.values[0] if t.values else math.inf for t in trials if t.state.is_finished()}

    @again
    def constrain(self, trial: optuna.Trial, violations: Mapping[str, float]) -> None:
        """Set every constraint, always in the same order; those set before a crash stay."""
        known = trial.constraints
        for name, value in violations.items():
            if name not in known:
                trial.set_constraint(name, value if math.isfinite(value) else UNFIT)

    def tell(self, number: int, values: Sequence[float]) -> None:
        """A trained trial's error and costs, in the order of the objectives."""
        self._finish(number, 0.0, self._point(values))

    def refuse(self, number: int, values: Sequence[float]) -> None:
        """A design that was not trained because it cannot run; `values` hold the worst error there is."""
        settings = self.space.settings
        self._finish(number, 0.0, self._point(values) if settings.sampler in NEEDS_VALUES else None)

    def stop(self, number: int, values: Sequence[float]) -> None:
        """A trial that went no further than a rung; `values` hold its error there."""
        self._finish(number, UNFIT, self._point(values) if self.space.settings.sampler in NEEDS_VALUES else None)

    def fail(self, number: int) -> None:
        """A trial whose training broke."""
        self._told(number, None, TrialState.FAIL)

    def _point(self, values: Sequence[float]) -> list[float]:
        costs = np.log10(np.maximum(values[1:], 1e-30))
        return [float(values[0]), *(float(cost) for cost in costs)]

    def _finish(self, number: int, unfinished: float, values: Sequence[float] | None) -> None:
        if number not in self.running():
            return  # told before, by a process that died right after it or was faster
        if self.space.settings.rungs:
            try:
                self.constrain(self.take_up(number), {UNFINISHED: unfinished})
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # by another process, since
        self._told(number, values, TrialState.PRUNED if values is None else TrialState.COMPLETE)

    @again
    def _told(self, number: int, values: Sequence[float] | None, state: TrialState) -> None:
        try:
            self.study.tell(number, values, state, skip_if_finished=True)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass
