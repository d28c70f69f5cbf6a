"""Reading a study: its trials, its front, its knee. Needs neither Optuna nor jax."""

import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from operator import is_
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from codesign.design import Accelerator, Activity, Design, Network, Recipe
from codesign.errors import DataError, InputError, StudyError, unknown
from codesign.hardware import COST_FIELDS
from codesign.knobs import Scalar
from codesign.search.accelerators import Costed, Grid
from codesign.search.artifacts import Artifacts
from codesign.search.front import hypervolume, knee, non_dominated
from codesign.search.records import TRAINED, Event, Records, TrainingRecord, TrialRecord
from codesign.search.space import SearchSpace, parse
from codesign.tasks import Task

CHANCE_DRAWS = 1000
FLAT = 0.01
FLAT_EVENTS = 10


@dataclass(frozen=True)
class FrontRow:
    """A member of a front.

    Attributes:
        trial: Optuna's number of the trial that trained the network.
        derived: whether the accelerator is another than the one proposed with it.
        design, recipe: what was trained, and how.
        network_key: names the training in the study.
        feasible: whether the design runs on its accelerator, fits its part and keeps the limits.
        cost: figures of one step at the measured activity; None where the technology has no such thing.
        error_search: validation error of the search's own seed; what it is the task's `metric` says.
        error_val: mean validation error of all seeds.
        error_val_std: their standard deviation, None for a single seed.
        error_test: mean test error of the seeds, None until the front is confirmed.
        metrics, test_metrics: means of all metrics of the task.
        seeds: that were trained.
        p_front: probability that no other member of the front dominates it, given the spread of the seeds.
    """

    trial: int
    derived: bool
    design: Design
    recipe: Recipe
    network_key: str
    feasible: bool
    cost: dict[str, float | int | None]
    error_search: float
    error_val: float
    error_val_std: float | None
    error_test: float | None
    metrics: dict[str, float]
    test_metrics: dict[str, float] | None
    seeds: tuple[int, ...]
    p_front: float | None

    def value(self, field: str) -> float | None:
        """The validation error or a cost, by name."""
        return self.error_val if field == "error" else self.cost[field]

    def as_dict(self) -> dict[str, Any]:
        """Plain data: the row that `codesign front --json` prints."""
        return {
            "trial": self.trial,
            "derived": self.derived,
            "design": self.design.model_dump(mode="json"),
            "error_val": self.error_val,
            "error_test": self.error_test,
            "error_val_std": self.error_val_std,
            **self.cost,
            "feasible": self.feasible,
            "metrics": self.metrics,
            "test_metrics": self.test_metrics,
            "seeds": list(self.seeds),
            "p_front": self.p_front,
        }


class Results:
    """What a results folder holds.

    Args:
        folder: of results.
        url: of the database, if it is not what the folder says.
        study: its name there; None where the database holds just one.

    Raises:
        StudyError: if the folder holds no study.
    """

    def __init__(self, folder: str | Path, url: str | None = None, study: str | None = None) -> None:
        self.folder = Path(folder)
        self.records = Records(self.folder, url=url, study=study)
        text = self.records.get("search_space")
        if text is None:
            raise StudyError(f"{self.records.label}: holds no study yet; run the search first")
        source = str(self.folder / "search_space.toml")
        space = parse({**tomllib.loads(text), "name": self.records.study}, source, "", text)
        self.space: SearchSpace = replace(space, starts=tuple(self.records.get("starts") or ()))
        self.artifacts = Artifacts(self.folder, self.records.get("artifacts"))
        self._remembered: dict[str, list[Costed]] = {}
        # rows of a network, and the records they were made of
        self._made: dict[tuple[str, bool], tuple[tuple[Any, ...], list[FrontRow]]] = {}
        # rows of all networks, and the front among them, when it was last asked for
        self._seen: tuple[dict[str, list[FrontRow]], list[FrontRow]] = {}, []

    @cached_property
    def grid(self) -> Grid:
        """All accelerators of the space."""
        return Grid(self.space)

    @property
    def task(self) -> Task:
        """What the networks learn."""
        return self.space.task

    @property
    def objectives(self) -> tuple[str, ...]:
        """What was minimised."""
        return self.space.objectives

    def weights(self, network_key: str, seed: int) -> dict[str, NDArray[np.float32]]:
        """The float master weights of a finished training, by dotted name.

        Raises:
            DataError: if they are lost or damaged.
        """
        record = self.records.training(network_key, seed)
        if record is None or record.weights is None:
            raise DataError(f"{self.folder}: network {network_key} was not trained with seed {seed}")
        return safetensors.numpy.load(self.artifacts.get(record.weights))

    def trained(self) -> list[FrontRow]:
        """Every trained design, dominated or not; with `every_accelerator`, on every accelerator it runs on."""
        return _sorted(self._own_designs())

    def _own_designs(self) -> dict[str, list[FrontRow]]:
        return self._designs(self.grid if self.space.settings.every_accelerator else None, self.space.limits)

    def what_if(self, changes: dict[str, list[Scalar]], limits: dict[str, float]) -> list[FrontRow]:
        """The front with other accelerators or limits, from what is stored: nothing is trained.

        Designs that the search refused or stopped are not among them; they were not trained.

        Args:
            changes: values by field of the accelerator.
            limits: by cost field, in place of the search's own.

        Raises:
            InputError: if a change is no field or no value of an accelerator, no trained network runs there, or
                there is no such cost as the study minimised.
        """
        grid = Grid(self.space, changes)
        rows = _sorted(self._designs(grid, limits, proposed=False))
        for row in rows:
            for name in self.objectives[1:]:
                if row.cost[name] is None:
                    raise InputError(f"{row.design.accelerator.technology} has no {name}, which this study minimised")
        if not rows and (trained := _sorted(self._designs(None, limits))):
            reasons = Counter(grid.obstacles(row.design.network, limits) for row in trained)
            raise InputError(f"no trained network runs there; mostly because {reasons.most_common(1)[0][0]}")
        return self._front(rows)

    def candidates(self) -> list[FrontRow]:
        """The front as the search saw it: every network with the one seed it was trained with."""
        now, (before, front) = self._own_designs(), self._seen
        if all(now.get(key) is rows for key, rows in before.items()):  # what is dominated stays so: only add
            rows = front + [row for key in now.keys() - before.keys() for row in now[key]]
        else:
            rows = [row for mine in now.values() for row in mine]
        front = self._members(rows, [row.error_search for row in rows])
        self._seen = now, front
        return list(front)

    def front(self) -> list[FrontRow]:
        """The non-dominated designs, best error first.

        Before `confirm` errors are those of one seed. Afterwards only confirmed networks compete, each
        with the mean of its seeds: a lucky seed must not keep a place, nor an unlucky rival lose one
        to it. Of designs with equal objectives the first stands for all. Test errors decide nothing.
        """
        return self._front(self.trained())

    def _front(self, rows: list[FrontRow]) -> list[FrontRow]:
        rows = [row for row in rows if row.error_test is not None] or rows
        members = self._members(rows, [row.error_val for row in rows])
        chances = self._chances(members)
        return [replace(row, p_front=chance) for row, chance in zip(members, chances, strict=True)]

    def _chances(self, rows: list[FrontRow]) -> list[float | None]:
        """How probable it is that no other of the rows dominates each, given the spread of the seeds.

        Every network's mean error is drawn anew from a normal distribution with the standard error of its seeds,
        the variance pooled over all networks; None where no network has several seeds.
        """
        spreads = [row.error_val_std for row in rows if row.error_val_std is not None]
        if not spreads:
            return [None] * len(rows)
        keys = sorted({row.network_key for row in rows})
        owner = np.array([keys.index(row.network_key) for row in rows])
        pooled = float(np.sqrt(np.mean(np.square(spreads))))
        errors = np.array([next(r.error_val for r in rows if r.network_key == key) for key in keys])
        scale = np.array([pooled / sqrt(len(next(r.seeds for r in rows if r.network_key == key))) for key in keys])
        costs = self.points(rows)[:, 1:]
        no_worse = (costs[None] <= costs[:, None]).all(-1)  # [i, j]: j costs no more than i
        cheaper = no_worse & (costs[None] < costs[:, None]).any(-1)
        drawn = np.random.default_rng(0).normal(errors, scale, (CHANCE_DRAWS, len(keys)))[:, owner]
        dominated = np.zeros(len(rows))
        for error in drawn:
            better, equal = error[None] < error[:, None], error[None] == error[:, None]
            dominated += ((no_worse & better) | (cheaper & equal)).any(1)
        return [float(1.0 - share) for share in dominated / CHANCE_DRAWS]

    def _designs(self, grid: Grid | None, limits: dict[str, float], proposed: bool = True) -> dict[str, list[FrontRow]]:
        """Trained networks by key, on the accelerators of their trials, and on those of a grid."""
        runs: dict[str, list[TrainingRecord]] = {}
        for (key, _), record in sorted(self.records.trainings().items()):
            if record.state == TRAINED:
                runs.setdefault(key, []).append(record)
        trials: dict[str, list[TrialRecord]] = {}
        for trial in self.records.trials(TRAINED):
            if trial.network_key in runs:
                trials.setdefault(trial.network_key, []).append(trial)
        own_grid = proposed and (grid is None or grid is self.grid)
        designs: dict[str, list[FrontRow]] = {}
        for key, mine in trials.items():
            made_of = (*runs[key], *mine)
            before = self._made.get((key, grid is None)) if own_grid else None
            if before is not None and len(before[0]) == len(made_of) and all(map(is_, before[0], made_of)):
                designs[key] = before[1]
                continue
            rows = designs[key] = []
            first = Design.model_validate(mine[0].design)
            recipe, summary = Recipe.model_validate(mine[0].recipe), _summary(runs[key], self.space.settings.seed)
            own: dict[Accelerator, TrialRecord] = {}
            for trial in mine:
                own.setdefault(Design.model_validate(trial.design).accelerator, trial)
            found: dict[Accelerator, dict[str, float | int | None]] = {}
            if proposed:
                found |= {accelerator: trial.cost for accelerator, trial in own.items()}
            if grid is not None:
                run = next((run for run in runs[key] if run.seed == self.space.settings.seed), runs[key][0])
                costed = self._on(grid, key, first.network, activity_of(run), limits)
                found = {one.accelerator: one.cost for one in costed} | found
            for accelerator, cost in found.items():
                trial = own.get(accelerator, mine[0])
                rows.append(
                    FrontRow(
                        trial=trial.number,
                        derived=accelerator not in own,
                        design=Design(network=first.network, accelerator=accelerator),
                        recipe=recipe,
                        network_key=key,
                        feasible=accelerator not in own or not trial.reasons,
                        cost=cost,
                        p_front=None,
                        **summary,
                    )
                )
            if own_grid:
                self._made[key, grid is None] = made_of, rows
        return designs

    def _on(self, grid: Grid, key: str, network: Network, activity: Activity, limits: dict[str, float]) -> list[Costed]:
        """A trained network on a grid; the search's own grid is asked again and again, and remembered."""
        if grid is not self.grid:
            return grid.costed(network, activity, limits)
        if key not in self._remembered:
            self._remembered[key] = grid.costed(network, activity, limits)
        return self._remembered[key]

    def _members(self, rows: list[FrontRow], errors: list[float]) -> list[FrontRow]:
        rows_errors = [(row, error) for row, error in zip(rows, errors, strict=True) if row.feasible]
        if not rows_errors:
            return []
        rows, errors = [row for row, _ in rows_errors], [error for _, error in rows_errors]
        points = self.points(rows)
        points[:, 0] = errors
        _, first = np.unique(points, axis=0, return_index=True)
        members = first[non_dominated(points[first])]
        return [rows[i] for i in sorted(members, key=lambda i: (errors[i], rows[i].trial, *points[i]))]

    def is_flat(self) -> bool:
        """Whether the hypervolume has stopped growing: by less than 1 % over the last quarter, or ten trials."""
        gain = self._late_gain()
        return gain is not None and gain[0] < FLAT

    def enough(self) -> str | None:
        """What the last trainings gained, in a sentence; None before there are enough of them to say."""
        late = self._late_gain()
        if late is None:
            return None
        gain, events = late
        minutes = (events[-1].seconds - events[0].seconds) / 60
        spent = f"The last {len(events) - 1} trainings took {minutes:.1f} min and raised the hypervolume by {gain:.1%}"
        if gain < FLAT:
            return f"{spent}: more of them hardly pay (--stop-when-flat ends a search here)"
        per_minute = f", {gain / minutes:.2%} a minute" if minutes > 0 else ""
        return f"{spent}{per_minute}: more of them may pay"

    def _late_gain(self) -> tuple[float, list[Event]] | None:
        events = self.records.events()
        late = max(FLAT_EVENTS, len(events) // 4)
        if len(events) <= late or not events[-late - 1].hypervolume:
            return None
        recent = events[-late - 1 :]
        return recent[-1].hypervolume / recent[0].hypervolume - 1.0, recent

    def points(self, rows: list[FrontRow]) -> NDArray[np.float64]:
        """Objectives of rows for geometry: error as it is, costs in log10: (n, objectives)."""
        values = np.array([[row.value(name) for name in self.objectives] for row in rows], np.float64)
        values[:, 1:] = np.log10(np.maximum(values[:, 1:], 1e-30))
        return values

    def hypervolume(self, rows: list[FrontRow]) -> float:
        """Share of the box between the ideal and the reference point that the rows dominate."""
        box = self.records.get("box")
        if not rows or box is None:
            return 0.0
        low, high = np.array(box["ideal"]), np.array(box["reference"])
        scaled = np.maximum((self.points(rows) - low) / np.where(high > low, high - low, 1.0), 0.0)
        return hypervolume(scaled, np.ones(len(low)))

    def knee(self, rows: list[FrontRow]) -> FrontRow:
        """The row farthest from the hyperplane through the extremes of the front."""
        return rows[knee(self.points(rows))]

    def choose(
        self, trial: int | None = None, best: str | None = None, limits: dict[str, float] | None = None
    ) -> FrontRow:
        """A member of the front: a trial's number, the best in a field within limits, or the knee.

        Raises:
            InputError: if there is no such member.
        """
        rows = self.front()
        if not rows:
            raise InputError(f"{self.folder}: no design is trained yet; run the search first")
        if trial is not None:
            for row in self.trained():
                if row.trial == trial:
                    return row
            known = ", ".join(str(row.trial) for row in rows)
            raise InputError(f"{self.folder}: trial {trial} is not a trained one; the front has {known}")
        fields = ("error", *COST_FIELDS)
        for field in [*(limits or {}), *([best] if best else [])]:
            if field not in fields:
                raise InputError(unknown("field", field, fields))
        for field, limit in (limits or {}).items():
            have = [(row, row.value(field)) for row in rows]
            rows = [row for row, value in have if value is not None and value <= limit]
            if not rows:
                smallest = min((value for _, value in have if value is not None), default=None)
                raise InputError(f"no member of the front has {field} <= {limit:g}; the smallest is {smallest}")
        if best is None:
            return self.knee(rows)
        valued = [(row.value(best), row) for row in rows]
        if any(value is None for value, _ in valued):
            raise InputError(f"this technology has no {best}; choose another field")
        return min(valued, key=lambda pair: pair[0] if pair[0] is not None else float("inf"))[1]


def _sorted(designs: dict[str, list[FrontRow]]) -> list[FrontRow]:
    return sorted((row for rows in designs.values() for row in rows), key=lambda row: (row.trial, row.derived))


def activity_of(run: TrainingRecord) -> Activity:
    """The measured activity of a finished training."""
    assert run.activity is not None
    return tuple(
        {
            int(streams): {int(block): tuple(shares) for block, shares in found.items()}
            for streams, found in layer.items()
        }
        for layer in run.activity
    )


def _summary(runs: list[TrainingRecord], search_seed: int) -> dict[str, Any]:
    """What the seeds of one network have in common."""
    tests = [run.test_metrics for run in runs if run.test_metrics is not None]
    errors = [run.error for run in runs]
    tested = len(tests) == len(runs)
    return {
        "error_search": next((run.error for run in runs if run.seed == search_seed), errors[0]),
        "error_val": mean(errors),
        "error_val_std": stdev(errors) if len(errors) > 1 else None,
        "error_test": mean(test["error"] for test in tests) if tested else None,
        "metrics": _means([run.metrics for run in runs if run.metrics is not None]),
        "test_metrics": _means(tests) if tested else None,
        "seeds": tuple(run.seed for run in runs),
    }


def _means(metrics: list[dict[str, float]]) -> dict[str, float]:
    return {name: mean(metric[name] for metric in metrics) for name in metrics[0]}
