"""Reading a study: its trials, its front, its knee. Needs neither Optuna nor jax."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from codesign.design import Design, Recipe
from codesign.errors import DataError, InputError, unknown
from codesign.hardware import COST_FIELDS
from codesign.knobs import read_toml
from codesign.search.front import hypervolume, knee, non_dominated
from codesign.search.records import TRAINED, Records, TrainingRecord, TrialRecord
from codesign.search.space import SearchSpace, parse
from codesign.tasks import Task


@dataclass(frozen=True)
class FrontRow:
    """A member of a front.

    Attributes:
        trial: Optuna's number.
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
    """

    trial: int
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

    def value(self, field: str) -> float | None:
        """The validation error or a cost, by name."""
        return self.error_val if field == "error" else self.cost[field]

    def as_dict(self) -> dict[str, Any]:
        """Plain data: the row that `codesign front --json` prints."""
        return {
            "trial": self.trial,
            "design": self.design.model_dump(mode="json"),
            "error_val": self.error_val,
            "error_test": self.error_test,
            "error_val_std": self.error_val_std,
            **self.cost,
            "feasible": self.feasible,
            "metrics": self.metrics,
            "test_metrics": self.test_metrics,
            "seeds": list(self.seeds),
        }


class Results:
    """What a results folder holds.

    Raises:
        StudyError: if the folder holds no study.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.records = Records(self.folder)
        source = self.folder / "search_space.toml"
        tables = read_toml(source)
        self.space: SearchSpace = parse(
            {**tables, "name": self.records.get("name")}, str(source), "", source.read_text("utf-8")
        )

    @property
    def task(self) -> Task:
        """What the networks learn."""
        return self.space.task

    @property
    def objectives(self) -> tuple[str, ...]:
        """What was minimised."""
        return self.space.objectives

    def weights_path(self, network_key: str, seed: int) -> Path:
        """Where the float master weights of a training are."""
        return self.folder / "weights" / f"{network_key}-{seed}.safetensors"

    def weights(self, network_key: str, seed: int) -> dict[str, NDArray[np.float32]]:
        """The float master weights of a training, by dotted name.

        Raises:
            DataError: if the file is lost or damaged.
        """
        path = self.weights_path(network_key, seed)
        try:
            return safetensors.numpy.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}); delete it and run the search again, which trains it anew"
            ) from None

    def trained(self) -> list[FrontRow]:
        """Every trained trial, dominated or not."""
        trials, trainings = self.records.trials(), self.records.trainings()
        return _rows(trials, trainings, self.space.settings.seed)

    def candidates(self) -> list[FrontRow]:
        """The front as the search saw it: every trial with the one seed it was trained with."""
        rows = self.trained()
        return self._members(rows, [row.error_search for row in rows])

    def front(self) -> list[FrontRow]:
        """The non-dominated trials, best error first.

        Before `confirm` errors are those of one seed. Afterwards only confirmed trials compete, each
        with the mean of its seeds: a lucky seed must not keep a place, nor an unlucky rival lose one
        to it. Of trials with equal objectives the first stands for all. Test errors decide nothing.
        """
        rows = self.trained()
        rows = [row for row in rows if row.error_test is not None] or rows
        return self._members(rows, [row.error_val for row in rows])

    def _members(self, rows: list[FrontRow], errors: list[float]) -> list[FrontRow]:
        if not rows:
            return []
        points = self.points(rows)
        points[:, 0] = errors
        _, first = np.unique(points, axis=0, return_index=True)
        members = first[non_dominated(points[first])]
        return [rows[i] for i in sorted(members, key=lambda i: (errors[i], rows[i].trial))]

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


def _rows(
    trials: list[TrialRecord], trainings: dict[tuple[str, int], TrainingRecord], search_seed: int
) -> list[FrontRow]:
    by_network: dict[str, list[TrainingRecord]] = {}
    for training in sorted(trainings.values(), key=lambda item: item.seed):
        by_network.setdefault(training.network_key, []).append(training)
    rows = []
    for trial in trials:
        if trial.state != TRAINED:
            continue
        runs = by_network[trial.network_key]
        tests = [run.test_metrics for run in runs if run.test_metrics is not None]
        errors = [run.metrics["error"] for run in runs]
        tested = len(tests) == len(runs)
        rows.append(
            FrontRow(
                trial=trial.number,
                design=Design.model_validate(trial.design),
                recipe=Recipe.model_validate(trial.recipe),
                network_key=trial.network_key,
                feasible=not trial.reasons,
                cost=trial.cost,
                error_search=next(run.metrics["error"] for run in runs if run.seed == search_seed),
                error_val=mean(errors),
                error_val_std=stdev(errors) if len(errors) > 1 else None,
                error_test=mean(test["error"] for test in tests) if tested else None,
                metrics=_means([run.metrics for run in runs]),
                test_metrics=_means(tests) if tested else None,
                seeds=tuple(run.seed for run in runs),
            )
        )
    return rows


def _means(metrics: list[dict[str, float]]) -> dict[str, float]:
    return {name: mean(metric[name] for metric in metrics) for name in metrics[0]}
