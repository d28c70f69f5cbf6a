"""What a search gains by asking the hardware first, training once and stopping early.

    python -m benchmarks.search_efficiency [--seeds N] [--workers N]

Replays searches on recorded learning curves (`benchmarks.learning_curves`): the engine is codesign's own, with its
database and Optuna's samplers, but a training is looked up instead of run. The hypervolume of a front is that of its
members' mean errors over all recorded seeds, so that luck gains nothing; the reference is the front of the whole
space. Counted are optimizer steps until 95 % of it: dense parents, extra seeds, and the confirmation of the front that
was found by then. A run that never gets there counts all its steps and is marked >=.

Writes results/reference/search_efficiency.json, .md and .png. Resumable.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.learning_curves import OUTPUT as TABLE
from benchmarks.learning_curves import SEEDS, SPACE, key_of, networks
from codesign import hardware
from codesign.design import ACTIVITY_BATCHES, ACTIVITY_BLOCKS, Network
from codesign.search.accelerators import Grid
from codesign.search.front import Points, hypervolume, non_dominated
from codesign.search.leases import Leases
from codesign.search.proposals import Proposals
from codesign.search.records import STOPPED, TRAINED, Records
from codesign.search.results import Results
from codesign.search.space import SearchSpace, load_search_space
from codesign.search.trainings import Job, Trainer
from codesign.search.worker import Worker

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "search_efficiency"
SHARE = 0.95
PLAIN = {"hardware_first": False, "train_once": False, "every_accelerator": False, "rungs": 0}
SHARED = {"hardware_first": True, "train_once": True, "every_accelerator": True, "rungs": 0}
OURS = SHARED | {"rungs": 2, "sampler": "tpe"}
METHODS: dict[str, dict[str, Any]] = {
    "codesign": OURS,
    **{f"plain {name}": PLAIN | {"sampler": name} for name in ("tpe", "nsga2", "random")},
    **{f"{name}, hardware first, every accelerator": SHARED | {"sampler": name} for name in ("tpe", "nsga2", "random")},
    "without hardware_first": OURS | {"hardware_first": False},
    "without train_once": OURS | {"train_once": False},
    "without every_accelerator": OURS | {"every_accelerator": False},
    "rungs = 1": OURS | {"rungs": 1},
    "reduction = 2": OURS | {"reduction": 2},
    "codesign with nsga2": OURS | {"sampler": "nsga2"},
    "codesign with random": OURS | {"sampler": "random"},
}
"""What is compared: settings of the [search] table."""

PINNED = ("plain tpe", "plain nsga2", "plain random")
"""Baselines that are run again with one n_pe: the one with which they do best."""

Run = dict[str, Any]


class Replayed(Trainer):
    """A trainer that looks trainings up.

    Args:
        curves: validation errors after every epoch, by network and seed.
        shift: added to a job's seed, modulo the recorded ones: another replay has other luck.
        steps_per_epoch: of the recorded trainings.
        worker: whose leases and records it uses.
    """

    def __init__(
        self, curves: dict[tuple[str, int], list[float]], shift: int, steps_per_epoch: int, worker: Worker
    ) -> None:
        own = worker.trainer
        super().__init__(own.task, own.records, own.artifacts, own.leases, own.judge, own.warn)
        self.curves, self.shift, self.steps_per_epoch = curves, shift, steps_per_epoch

    def run(self, jobs: Sequence[Job]) -> None:
        """Every job from rung to rung, until it is stopped or at its end."""
        for job in jobs:
            errors = self.curves[key_of(job.network), (job.seed + self.shift) % len(SEEDS)]
            for rung, epochs in enumerate(job.budgets):
                record = self._known(job)
                steps = epochs * self.steps_per_epoch
                rungs = (*record.rungs, (epochs, errors[epochs - 1]))
                record = replace(record, epochs=epochs, steps=steps, rungs=rungs, seconds=0.0)
                if epochs == job.recipe.total_epochs:
                    metrics, activity = {"error": errors[-1]}, [_all_active(job.network)]
                    record = replace(record, state=TRAINED, metrics=metrics, activity=activity, weights="-")
                self._write(job, record)
                if record.state == TRAINED:
                    break
                verdict = self.judge(job, rung)
                if verdict is not None:
                    self._write(job, replace(record, state=STOPPED, reason=verdict))
                    break


def _all_active(network: Network) -> dict[str, dict[str, list[float]]]:
    """The activity of a state without zeros, which these networks have."""
    shares = {str(block): [0.0] * -(-network.state // block) + [1.0] for block in ACTIVITY_BLOCKS}
    return {str(streams): shares for streams in ACTIVITY_BATCHES}


class World:
    """All that a replay looks up.

    Args:
        space: of the recorded networks.
    """

    def __init__(self, space: SearchSpace) -> None:
        table = json.loads(TABLE.read_text())
        self.space, self.steps_per_epoch = space, int(table["steps_per_epoch"])
        self.curves = {(one["key"], one["seed"]): one["errors"] for one in table["curves"]}
        self.mean = {key: float(np.mean([self.curves[key, seed][-1] for seed in SEEDS])) for key, _ in self.curves}
        grid = Grid(space)
        rows = []
        for key, network in networks(space).items():
            for one in grid.costed(network, None, space.limits):
                rows.append([self.mean[key], *(float(one.cost[name] or 0.0) for name in space.objectives[1:])])
        points = _logged(np.array(rows))
        self.low, self.high = points.min(0), points.max(0)
        self.high[0] = 1.0 - 1.0 / 20  # guessing one of the phones
        self.best = self.volume(points)

    def volume(self, points: Points) -> float:
        """Share of the box that points cover."""
        if not len(points):
            return 0.0
        scaled = (points - self.low) / (self.high - self.low)
        return hypervolume(scaled[non_dominated(scaled)], np.ones(len(self.low)))


def _logged(points: Points) -> Points:
    points = points.copy()
    points[:, 1:] = np.log10(np.maximum(points[:, 1:], 1e-30))
    return points


@cache
def world() -> World:
    """The recorded table, read once a process."""
    return World(load_search_space(SPACE))


def replay(method: str, seed: int, trials: int, n_pe: int | None = None) -> Run:
    """One search on the table: hypervolume after every trial, and steps until 95 % of the reference."""
    here = world()
    space = here.space.changed(**METHODS[method], seed=seed, trials=trials)
    if n_pe is not None:
        accelerator = {**space.tree["accelerator"], "n_pe": n_pe}  # type: ignore[dict-item]
        space = replace(space, tree={**space.tree, "accelerator": accelerator})
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder:
        records = Records(Path(folder), create=True, study=space.name)
        records.set("search_space", space.text)
        records.set("box", {"ideal": here.low.tolist(), "reference": here.high.tolist()})
        results = Results(folder)
        results.space = space
        proposals = Proposals(space, records)
        history: list[tuple[int, float, int]] = []

        def on_progress(phase: str) -> None:
            rows = [row for row in results.trained() if row.feasible]
            points = np.array([[here.mean[key_of(row.design.network)], *_costs(row.cost, space)] for row in rows])
            points = _logged(points) if len(points) else np.zeros((0, len(space.objectives)))
            steps, _ = records.spent()
            members = {row.network_key for row in results.candidates()}
            known = records.trainings()
            first = space.settings.seed
            missing = sum((key, first + i) not in known for key in members for i in range(len(SEEDS)))
            confirm = missing * here.steps_per_epoch * _epochs(space) if method.startswith(CONFIRMING) else 0
            history.append((steps, here.volume(points) / here.best, steps + confirm))

        with Leases(records) as leases:
            worker = Worker(space, results, proposals, leases, on_progress)
            worker.trainer = Replayed(here.curves, seed, here.steps_per_epoch, worker)
            worker.search()
        refused = records.count_trials()["refused"]
    reached = next(((steps, total) for steps, volume, total in history if volume >= SHARE), None)
    return {
        "method": method,
        "n_pe": n_pe,
        "seed": seed,
        "settings": METHODS[method] | {"trials": trials, "cost_model": hardware.VERSION},
        "steps": [steps for steps, _, _ in history],
        "hypervolume": [round(volume, 5) for _, volume, _ in history],
        "steps_to_share": reached[1] if reached else history[-1][2],
        "reached": reached is not None,
        "refused": refused,
        "seconds": round(time.monotonic() - began, 2),
    }


CONFIRMING = ("codesign", "without", "rungs", "reduction")
"""Methods whose confirmation counts: the baselines have none."""


def _costs(cost: dict[str, float | int | None], space: SearchSpace) -> list[float]:
    return [float(cost[name] or 0.0) for name in space.objectives[1:]]


def _epochs(space: SearchSpace) -> int:
    return int(str(space.tree["recipe"]["epochs"]))  # type: ignore[index]


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """A row a method: median steps to the share, quartiles, runs that reached it."""
    rows = []
    for method, n_pe in dict.fromkeys((run["method"], run["n_pe"]) for run in runs):
        mine = [run for run in runs if (run["method"], run["n_pe"]) == (method, n_pe)]
        steps = sorted(run["steps_to_share"] for run in mine)
        rows.append(
            {
                "method": method if n_pe is None else f"{method}, n_pe = {n_pe}",
                "replays": len(mine),
                "reached": sum(run["reached"] for run in mine) / len(mine),
                "steps_median": median(steps),
                "steps_quartiles": [float(np.quantile(steps, q)) for q in (0.25, 0.75)],
                "at_least": sum(run["reached"] for run in mine) * 2 <= len(mine),
                "refused_median": median(run["refused"] for run in mine),
            }
        )
    return rows


def markdown(content: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "# Hypervolume against training steps",
        "",
        "`python -m benchmarks.search_efficiency`: searches replayed on recorded learning curves (360 networks, three",
        f"seeds, ru_phones mini). Optimizer steps until {SHARE:.0%} of the hypervolume of the whole space's front.",
        "",
        "| method | replays | reached | steps, median | quartiles | ratio to codesign |",
        "|---|---|---|---|---|---|",
    ]
    ours = next(row["steps_median"] for row in content["rows"] if row["method"] == "codesign")
    for row in content["rows"]:
        sign = ">= " if row["at_least"] else ""
        low, high = row["steps_quartiles"]
        lines.append(
            f"| {row['method']} | {row['replays']} | {row['reached']:.0%} | {sign}{row['steps_median']:,.0f} "
            f"| {low:,.0f} to {high:,.0f} | {sign}{row['steps_median'] / ours:.2f} |"
        )
    lines += ["", f"steps_ratio_median against the best plain sampler: {content['steps_ratio_median']:.2f}"]
    return "\n".join(lines) + "\n"


def plot(runs: list[Run], path: Path) -> None:
    """Median hypervolume over steps, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    shown = ["codesign", *PINNED, "tpe, hardware first, every accelerator"]
    for method in shown:
        mine = [run for run in runs if run["method"] == method and run["n_pe"] is None]
        if not mine:
            continue
        steps = np.geomspace(max(1, min(run["steps"][1] for run in mine)), max(run["steps"][-1] for run in mine), 200)
        curves = [
            np.array(run["hypervolume"])[np.maximum(np.searchsorted(run["steps"], steps, "right") - 1, 0)]
            for run in mine
        ]
        axis.plot(steps, np.median(curves, 0), label=method)
        axis.fill_between(steps, np.quantile(curves, 0.25, 0), np.quantile(curves, 0.75, 0), alpha=0.15)
    axis.axhline(SHARE, color="grey", linewidth=0.8, linestyle="--")
    axis.set(xscale="log", xlabel="optimizer steps", ylabel="hypervolume, share of the best front", ylim=(0, 1.02))
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="replays of each method")
    parser.add_argument("--trials", type=int, default=200, help="trained designs a replay")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="replays side by side")
    options = parser.parse_args()
    known: list[Run] = []
    if OUTPUT.with_suffix(".json").exists():
        known = json.loads(OUTPUT.with_suffix(".json").read_text())["runs"]
    sizes = world().space.knobs["accelerator.n_pe"]
    pairs = [(method, None) for method in METHODS] + [(method, int(n)) for method in PINNED for n in sizes.values]
    jobs = [(method, seed, options.trials, n_pe) for seed in range(options.seeds) for method, n_pe in pairs]
    done = {(run["method"], run["seed"], run["n_pe"]) for run in known if _stands(run, options.trials)}
    known = [run for run in known if (run["method"], run["seed"], run["n_pe"]) in done]
    jobs = [job for job in jobs if (job[0], job[1], job[3]) not in done]
    with Progress() as progress, ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        bar = progress.add_task("replays", total=len(jobs))
        running = [pool.submit(replay, *job) for job in jobs]
        for count, future in enumerate(as_completed(running), 1):
            known.append(future.result())
            progress.advance(bar)
            if count % 20 == 0 or count == len(jobs):
                _write(known)
    _write(known)
    print(OUTPUT.with_suffix(".md").read_text())


def _stands(run: Run, trials: int) -> bool:
    wanted = METHODS.get(run["method"], {}) | {"trials": trials, "cost_model": hardware.VERSION}
    return bool(run["settings"] == wanted)


def _write(runs: list[Run]) -> None:
    rows = summary(runs)
    medians = {row["method"]: row["steps_median"] for row in rows}
    content: dict[str, Any] = {"rows": rows, "runs": runs, "steps_ratio_median": None}
    if "codesign" not in medians or not any(name in medians for name in PINNED):
        return
    content["steps_ratio_median"] = min(medians[name] for name in PINNED if name in medians) / medians["codesign"]
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(content).replace('{"method"', '\n{"method"') + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))
    OUTPUT.with_suffix(".md").write_text(markdown(content))
    plot(runs, OUTPUT.with_suffix(".png"))


if __name__ == "__main__":
    main()
