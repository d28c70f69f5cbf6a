"""Optuna's part: asking for a point of the space, telling what came of it."""

import logging
import math
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from codesign.design import Accelerator, Design, Recipe
from codesign.errors import StudyError
from codesign.knobs import Choice, Range, Scalar
from codesign.search.phases import Phases, key
from codesign.search.records import CREATE_TRIES, Records
from codesign.search.samplers import NEEDS_VALUES, Renewed
from codesign.search.server import again
from codesign.search.space import SearchSpace

MEMORY = "sampler memory"
"""Fact about a study: what its sampler remembers beside the trials."""

UNFIT = 1.0  # value of a constraint that a design breaks without a measure of how far
UNFINISHED = "unfinished"
"""The constraint that a trial breaks which was stopped at a rung; only such trials have it."""

logging.getLogger("optuna").setLevel(logging.WARNING)


def suggested(space: SearchSpace, trial: BaseTrial) -> tuple[Design, Recipe]:
    """The point of a space that a trial stands for; asking again gives the same."""

    def pick(name: str, node: Choice | Range) -> Scalar:
        if isinstance(node, Choice):
            return cast(Scalar, trial.suggest_categorical(name, node.values))
        if node.whole and (node.step is None or float(node.step).is_integer()):
            step = int(node.step or 1)
            return trial.suggest_int(name, int(node.low), int(node.high), step=step, log=node.log)
        return trial.suggest_float(name, node.low, node.high, step=node.step, log=node.log)

    return space.design(pick)


class Memory(optuna.storages.InMemoryStorage):
    """Proposals in memory; what a sampler remembers of the study as a whole is kept among the study's records."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self.records = records

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Only who asks calls this, and only one asks at a time."""
        self.records.set(MEMORY, {**(self.records.get(MEMORY) or {}), key: value})

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """What was remembered, by whichever worker."""
        return self.records.get(MEMORY) or {}


def stored_study(space: SearchSpace, records: Records) -> optuna.Study:
    """The Optuna study in a study's database, made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for attempt in range(CREATE_TRIES):
        try:
            storage = optuna.storages.RDBStorage(records.url, engine_kwargs=records.storage.engine_options())
            records.server.watch(storage.engine, tell_cuts=True)
            study = optuna.create_study(
                storage=storage,
                study_name=records.study,
                directions=["minimize"] * len(space.objectives),
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(),  # never asked
            )
            weakref.finalize(study, storage.engine.dispose)
            break
        except StudyError:
            raise
        except Exception as error:  # another process makes the tables: every database says so in its own way
            if attempt == CREATE_TRIES - 1:
                raise records.fault(error) from error
            time.sleep(0.2)
    if study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([name if name == "error" else f"log10 {name}" for name in space.objectives])
    return study


class Proposals:
    """The Optuna study behind a search; objectives are told as error and log10 of costs.

    Samplers work on a copy in memory, which is brought up to the stored study before every use. A trial is asked for
    and its parameters are drawn there; then it is written down in one transaction, whole or not at all.

    Args:
        space: that is searched.
        records: of the study.
        stored: the Optuna study that all workers share.

    Attributes:
        study: the copy in memory.
    """

    def __init__(self, space: SearchSpace, records: Records, stored: optuna.Study) -> None:
        self.space, self.records, self.server, self.stored = space, records, records.server, stored
        self.phases = Phases(space) if space.settings.sampler == "ernn" else None
        self.sampler = Renewed(
            "random" if self.phases else space.settings.sampler, space.settings.seed, dict(enumerate(space.starts))
        )
        self.storage = stored._storage  # Optuna offers no public way to add a trial that is still running
        self._empty()

    def _empty(self) -> None:
        self._asked: int | None = None  # asked for and not written down
        self._fresh = False  # brought up to the database since the last was asked for
        self.memory = Memory(self.records)
        self.study = optuna.create_study(
            storage=self.memory, directions=["minimize"] * len(self.space.objectives), sampler=self.sampler
        )

    @again
    def refresh(self) -> list[FrozenTrial]:
        """Bring the copy up to the database: all trials by number."""
        stored = self.stored.get_trials(deepcopy=False)
        if self._asked is not None:  # nothing came of it, and by now its number may be another trial's
            self._empty()
        known = self.study.get_trials(deepcopy=False)
        for trial in stored[len(known) :]:
            self.study.add_trial(trial)
        for before in known:
            if before.state == TrialState.RUNNING and (now := stored[before.number]).state.is_finished():
                for name, value in now.system_attrs.items():
                    self.memory.set_trial_system_attr(before._trial_id, name, value)
                self.memory.set_trial_state_values(before._trial_id, now.state, now.values)
        self._fresh = True
        return stored

    def running(self) -> list[int]:
        """Numbers of the trials that Optuna has not been told of."""
        return [trial.number for trial in self.refresh() if trial.state == TrialState.RUNNING]

    def take_up(self, number: int) -> FrozenTrial:
        """A trial that this or another process has written down."""
        return self.refresh()[number]

    @again
    def ask(self) -> optuna.Trial:
        """A new trial, nowhere but here until it is put; the caller sees to it that nobody else asks meanwhile."""
        if not self._fresh or self._asked is not None:  # or cut off while it asked: half a trial may be there
            self.refresh()
        self._fresh = False
        number = len(self.study.get_trials(deepcopy=False))
        if self._repeats():
            self.sampler.wanders.add(number)
        self._asked = number  # before it is made: a sampler that is cut off leaves half a trial behind
        return self.study.ask()

    def _repeats(self) -> bool:
        """Whether the last trial taught nothing: its network was there, and every accelerator had been costed."""
        if not (self.space.settings.train_once and self.space.settings.every_accelerator):
            return False
        trials = self.study.get_trials(deepcopy=False)
        if not trials:
            return False
        network = [pair for pair in trials[-1].params.items() if not pair[0].startswith("accelerator.")]
        return any(all(trial.params.get(name) == value for name, value in network) for trial in trials[:-1])

    @again
    def design(self, trial: BaseTrial) -> tuple[Design, Recipe]:
        """The point of the space that the trial stands for."""
        if self.phases is not None:
            point = self.phases.next(self._errors(trial.number))
            self.sampler.given.setdefault(trial.number, point or self.phases.first)
        return suggested(self.space, trial)

    def move(self, trial: optuna.Trial, accelerator: Accelerator) -> None:
        """Give a trial that was asked for another accelerator of the space, as if it had been proposed."""
        asked = self.study.get_trials(deepcopy=False)[trial.number]
        for name, distribution in asked.distributions.items():
            table, _, field = name.partition(".")
            if table == "accelerator":
                value = distribution.to_internal_repr(getattr(accelerator, field))
                self.memory.set_trial_param(trial._trial_id, name, value, distribution)

    def put(self, trial: optuna.Trial, violations: Mapping[str, float]) -> bool:
        """Write a trial down that was asked for, with every constraint, always in the same order.

        Returns:
            Whether it has the number under which it was asked: not where somebody else asked meanwhile.
        """
        for name, value in violations.items():
            trial.set_constraint(name, value if math.isfinite(value) else UNFIT)
        found = self._put(self.study.get_trials(deepcopy=False)[trial.number], [])
        if found:
            self._asked = None
        return found

    @again
    def _put(self, trial: FrozenTrial, tried: list[bool]) -> bool:
        if tried:  # cut off: it stands there if it had been committed
            stored = self.stored.get_trials(deepcopy=False)[trial.number : trial.number + 1]
            if stored:
                return (stored[0].params, stored[0].system_attrs) == (trial.params, trial.system_attrs)
        tried.append(True)
        made = self.storage.create_new_trial(self.stored._study_id, trial)
        number = self.storage.get_trial_number_from_id(made)
        return number == trial.number

    @again
    def exhausted(self) -> bool:
        """Whether there is nothing left to propose: the phases of E-RNN come to an end."""
        if self.phases is None:
            return False
        self.refresh()
        return self.phases.next(self._errors(None)) is None

    def _errors(self, before: int | None) -> dict[frozenset[tuple[str, Scalar]], float]:
        """Errors of the trials so far, or of those before one; infinite where nothing was trained."""
        trials = self.study.get_trials(deepcopy=False)[:before]
        return {key(t.params): t.values[0] if t.values else math.inf for t in trials if t.state.is_finished()}

    def tell(self, number: int, values: Sequence[float]) -> None:
        """A trained trial's error and costs, in the order of the objectives."""
        self._told(number, self._point(values))

    def refuse(self, number: int, values: Sequence[float]) -> None:
        """A design that was not trained because it cannot run; `values` hold the worst error there is."""
        self._told(number, self._point(values) if self.space.settings.sampler in NEEDS_VALUES else None)

    def stop(self, number: int, values: Sequence[float]) -> None:
        """A trial that went no further than a rung; `values` hold its error there."""
        values_told = self._point(values) if self.space.settings.sampler in NEEDS_VALUES else None
        self._told(number, values_told, broken=UNFINISHED)

    def fail(self, number: int) -> None:
        """A trial whose training broke."""
        self._told(number, None, TrialState.FAIL)

    def _point(self, values: Sequence[float]) -> list[float]:
        costs = np.log10(np.maximum(values[1:], 1e-30))
        return [float(values[0]), *(float(cost) for cost in costs)]

    @again
    def _told(
        self,
        number: int,
        values: Sequence[float] | None,
        state: TrialState | None = None,
        broken: str | None = None,
    ) -> None:
        """Once: a process may have told it before and died right after, or another be faster.

        Args:
            state: default: complete with values, pruned without.
            broken: a constraint that only now turned out to be broken.
        """
        state = state or (TrialState.PRUNED if values is None else TrialState.COMPLETE)
        try:
            trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.stored._study_id, number)
            if broken is not None:
                trial = optuna.trial.Trial(self.stored, trial_id)
                if broken not in trial.constraints:
                    trial.set_constraint(broken, UNFIT)
            self.stored.tell(number, values, state, skip_if_finished=True)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass
