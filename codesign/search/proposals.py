"""Optuna's part: samplers by name, asking for a point of the space, telling what came of it.

The sampler is made anew for every trial from (seed, trial number), and for every parameter that is
drawn on its own from these and the parameter's name. What it proposes is therefore a function of what is
stored, and a resumed study proposes what an uninterrupted one would have, wherever it was stopped.
"""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import cast
from zlib import crc32

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState

from codesign.design import Design, Recipe
from codesign.knobs import Choice, Range, Scalar
from codesign.search.records import Records, database_fault
from codesign.search.space import SearchSpace

SQL_TIMEOUT_S = 60
UNFIT = 1.0  # value of a constraint that a design breaks without a measure of how far

logging.getLogger("optuna").setLevel(logging.WARNING)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(multivariate=True, group=True, seed=seed)


def _nsga2(seed: int) -> BaseSampler:
    return NSGAIISampler(population_size=24, seed=seed)


SAMPLERS = {"tpe": _tpe, "nsga2": _nsga2}
LEARNS_FROM_PRUNED = frozenset({"tpe"})
"""Samplers that take a refused trial's constraints into account although it has no values; the
others are told values, which constrained dominance then ignores in favour of the violation."""


class Proposals:
    """The Optuna study behind a search; objectives are told as error and log10 of costs."""

    def __init__(self, space: SearchSpace, records: Records) -> None:
        self.space = space
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = optuna.storages.RDBStorage(
                records.url, engine_kwargs={"connect_args": {"timeout": SQL_TIMEOUT_S}}
            )
            self.study = optuna.create_study(
                storage=storage,
                study_name=space.name,
                directions=["minimize"] * len(space.objectives),
                load_if_exists=True,
            )
            if self.study.metric_names is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    names = [name if name == "error" else f"log10 {name}" for name in space.objectives]
                    self.study.set_metric_names(names)
        except optuna.exceptions.StorageInternalError as error:
            raise database_fault(records.path, error) from error

    def unfinished(self) -> list[optuna.Trial]:
        """Trials that a process left behind when it died, to be continued under their own numbers."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trials = []
        for frozen in running:
            self._renew_sampler(frozen.number)
            # What ask() does after creating a trial; Optuna offers no public way to take one up again.
            trials.append(optuna.trial.Trial(self.study, frozen._trial_id))
        return trials

    def ask(self) -> optuna.Trial:
        """A new trial; its number is the count of those before it."""
        self._renew_sampler(len(self.study.get_trials(deepcopy=False)))
        return self.study.ask()

    def design(self, trial: optuna.Trial) -> tuple[Design, Recipe]:
        """The point of the space that the trial stands for; asking again gives the same."""

        def pick(name: str, node: Choice | Range) -> Scalar:
            self._renew_sampler(trial.number, name)
            if isinstance(node, Choice):
                return cast(Scalar, trial.suggest_categorical(name, node.values))
            if node.whole and (node.step is None or float(node.step).is_integer()):
                step = int(node.step or 1)
                return trial.suggest_int(name, int(node.low), int(node.high), step=step, log=node.log)
            return trial.suggest_float(name, node.low, node.high, step=node.step, log=node.log)

        return self.space.design(pick)

    def constrain(self, trial: optuna.Trial, violations: Mapping[str, float]) -> None:
        """Set every constraint, always in the same order; those set before a crash stay."""
        known = trial.constraints
        for name, value in violations.items():
            if name not in known:
                trial.set_constraint(name, value if math.isfinite(value) else UNFIT)

    def tell(self, trial: optuna.Trial, values: Sequence[float]) -> None:
        """The trial's error and costs, in the order of the objectives."""
        error, costs = values[0], np.log10(np.maximum(values[1:], 1e-30))
        self.study.tell(trial.number, [float(error), *(float(cost) for cost in costs)])

    def refuse(self, trial: optuna.Trial, values: Sequence[float]) -> None:
        """A design that was not trained because it cannot run; `values` hold the worst error there is."""
        if self.space.settings.sampler in LEARNS_FROM_PRUNED:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self.tell(trial, values)

    def fail(self, trial: optuna.Trial) -> None:
        """A trial whose training broke."""
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _renew_sampler(self, number: int, parameter: str = "") -> None:
        entropy = [self.space.settings.seed, number, crc32(parameter.encode())]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = SAMPLERS[self.space.settings.sampler](seed)
