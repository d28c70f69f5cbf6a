"""Optuna's samplers by name, each made anew for every trial and parameter.

What a sampler proposes is thereby a function of (seed, trial number, parameter) and of what is stored: a study that
was interrupted proposes what an uninterrupted one would have, and workers side by side never draw the same numbers.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from zlib import crc32

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from codesign.errors import InputError

POPULATION = 24
"""Of the genetic samplers: a study of a hundred trials has several generations of it, of Optuna's 50 only two."""


def require(name: str) -> None:
    """Raise InputError if a sampler needs a package that is not installed."""
    if name == "gp" and find_spec("torch") is None:
        raise InputError("search.sampler: gp needs PyTorch; pip install 'codesign[gp]', or use tpe")


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(multivariate=True, group=True, seed=seed),
    "nsga2": lambda seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    "nsga3": lambda seed: NSGAIIISampler(population_size=POPULATION, seed=seed),
    "gp": lambda seed: GPSampler(seed=seed, deterministic_objective=False),
    "random": lambda seed: RandomSampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False),
}

NEEDS_VALUES = frozenset({"nsga2", "nsga3"})
"""Samplers that learn from trials with values only. A refused or stopped trial is told to them with values, which
constrained dominance ignores in favour of the violation; TPE takes the constraints of a pruned trial into account
without values, and the others would fit values that are made up."""

ONE_SEED = frozenset({"qmc"})
"""Samplers whose points belong to one sequence: every trial takes the next of it."""


REMEMBERS_SPACE = frozenset({"tpe"})
"""Samplers that must draw from the very joint space which they have inferred; of the others one infers it for all."""


class Renewed(BaseSampler):
    """A sampler made anew from (seed, trial number, parameter) whenever it is asked.

    Args:
        name: of a sampler.
        seed: of the study.
        given: parameters by trial number, which no sampler draws.

    Attributes:
        wanders: numbers of trials that are drawn at random, whatever the sampler.
    """

    def __init__(self, name: str, seed: int, given: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        self.name, self.seed, self.given = name, seed, dict(given or {})
        self.wanders: set[int] = set()
        self._joint: tuple[int, BaseSampler] | None = None  # of the trial at hand: its steps share what they find
        self._inferring = _made(name, seed) if name not in REMEMBERS_SPACE else None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn jointly: nothing in a trial that is given."""
        if trial.number in self.given or trial.number in self.wanders:
            return {}
        # Anew for each trial it would look through all trials there are.
        return (self._inferring or self._of(trial)).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Joint draws."""
        if trial.number in self.given or trial.number in self.wanders:
            return {}
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that is drawn by itself, or the given one."""
        if trial.number in self.given:
            return self.given[trial.number][param_name]
        return self._fresh(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """The genetic samplers choose the generation here."""
        self._joint = trial.number, self._fresh(trial)
        self._joint[1].before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """What a sampler wants to write down."""
        self._of(trial).after_trial(study, trial, state, values)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self._joint is None or self._joint[0] != trial.number:
            self._joint = trial.number, self._fresh(trial)
        return self._joint[1]

    def _fresh(self, trial: FrozenTrial, parameter: str = "") -> BaseSampler:
        entropy = [self.seed, trial.number, crc32(parameter.encode())]
        drawn = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        name = "random" if parameter and trial.number in self.wanders else self.name
        return _made(name, self.seed if name in ONE_SEED else drawn)


def _made(name: str, seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](seed)
