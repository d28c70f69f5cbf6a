"""What a search gains by asking the hardware first, training once and stopping early.

    python -m benchmarks.search_efficiency [--seeds N] [--workers N]

Replays searches on recorded learning curves (`benchmarks.learning_curves`). Ours are run by codesign's own engine, with
its tables and Optuna's samplers, but a training is looked up instead of run; the plain ones are what Optuna does by
itself with its default settings: ask, train to the end, cost, tell. Counted are optimizer steps until the designs
trained so far cover 95 % of the hypervolume of the whole space's front; ours also count dense parents, extra seeds, and
the confirmation with three seeds of the front that was found by then. A run that never gets there counts all its steps
and is marked >=.

The hypervolume is that of mean errors over all recorded seeds, so that luck gains nothing. Its reference point is the
worst that the space holds in each objective (costs as log10). Beside it stands the easier one that a study shows while
it runs, whose worst error is that of a guess.

Writes results/reference/search_efficiency.json, .md and .png. Resumable. An hour on two cores.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna

from benchmarks.learning_curves import OUTPUT as TABLE
from benchmarks.learning_curves import SEEDS, SPACE, key_of, networks
from benchmarks.pool import answers, cores
from benchmarks.replayed import Replayed
from codesign import hardware, training
from codesign.hardware import Cost
from codesign.knobs import Scalar
from codesign.search.accelerators import Grid
from codesign.search.front import Points, hypervolume, non_dominated
from codesign.search.leases import Leases
from codesign.search.proposals import Proposals, suggested
from codesign.search.records import Records
from codesign.search.results import Results
from codesign.search.space import SearchSpace, load_search_space
from codesign.search.trainings import Job
from codesign.search.worker import Worker

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "search_efficiency"
SHARE = 0.95
OURS: dict[str, Any] = {"sampler": "tpe", "rungs": 2, "reduction": 3}
SHARED = OURS | {"rungs": 0}
FLAT, KNOWN = "with stop_when_flat", "with known designs first"
METHODS: dict[str, dict[str, Any]] = {
    "codesign": OURS,
    "without hardware_first": OURS | {"hardware_first": False},
    "without train_once": OURS | {"train_once": False},
    "without every_accelerator": OURS | {"every_accelerator": False},
    "without rungs": OURS | {"rungs": 0},
    "random instead of tpe": OURS | {"sampler": "random"},
    KNOWN: OURS,
    FLAT: OURS | {"stop_when_flat": True},
    **{f"{name}, hardware first, every accelerator": SHARED | {"sampler": name} for name in ("tpe", "nsga2", "random")},
}
"""Searches of our engine: settings of the [search] table; rungs are compared with none, ingredients with all."""

STARTS: tuple[dict[str, Scalar], ...] = tuple(
    {
        "network.cell": "gru",
        "network.hidden": hidden,
        "network.input_kernel.weights.fixed.bits": 8,
        "network.recurrent_kernel.structure": "dense",
        "network.recurrent_kernel.weights.fixed.bits": 8,
        "accelerator.n_pe": 16,
    }
    for hidden in (64, 32, 16)
)
"""What one would try first without a search: dense GRUs of 8 bits."""

NOT_OURS = tuple(name for name in METHODS if "hardware first, every" in name)
"""Searches whose front is not confirmed: Optuna's samplers with two of our ingredients."""

PLAIN: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "plain tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "plain nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "plain random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}

TRIALS = {True: 450, False: 300}
"""Trained designs after which a plain search, or one of ours, is given up."""

Run = dict[str, Any]


class World:
    """All that a replay looks up.

    Args:
        space: of the recorded networks.
    """

    def __init__(self, space: SearchSpace) -> None:
        table = json.loads(TABLE.read_text())
        self.space, self.steps_per_epoch = space, int(table["steps_per_epoch"])
        self.curves = {(one["key"], one["seed"]): one["errors"] for one in table["curves"]}
        self.seconds = {(one["key"], one["seed"]): one["train_seconds"] for one in table["curves"]}
        self.mean = {key: float(np.mean([self.curves[key, seed][-1] for seed in SEEDS])) for key, _ in self.curves}
        self.designs = {key: Grid(space).costed(net, None, space.limits) for key, net in networks(space).items()}
        points = self.front_of(lambda n_pe: True)
        self.low, self.high = points.min(0), points.max(0)
        data = training.splits(space.task)
        self.easy = self.high.copy()
        self.easy[0] = space.task.trivial_error(data.train, data.validation)
        self.best, self.easy_best = self.volume(points, self.high), self.volume(points, self.easy)

    def front_of(self, allowed: Callable[[int], bool]) -> Points:
        """All designs within the limits that have an allowed number of processing elements."""
        rows = [
            [self.mean[key], *self.costs(one.cost)]
            for key, found in self.designs.items()
            for one in found
            if allowed(one.accelerator.n_pe)
        ]
        return logged(np.array(rows))

    def costs(self, cost: dict[str, float | int | None]) -> list[float]:
        """The costs that are minimised."""
        return [float(cost[name] or 0.0) for name in self.space.objectives[1:]]

    def luck(self, key: str, seed: int, shift: int) -> tuple[str, int]:
        """Which recorded training stands for one: with another shift another replay has other luck."""
        return key, (seed + shift) % len(SEEDS)

    def volume(self, points: Points, reference: Points) -> float:
        """Share of the box that points cover."""
        if not len(points):
            return 0.0
        scaled = (points - self.low) / (reference - self.low)
        return hypervolume(scaled[non_dominated(scaled)], np.ones(len(self.low)))

    def shares(self, points: Points) -> tuple[float, float]:
        """Of the best hypervolume, in the box of the space and in that of a guess."""
        return self.volume(points, self.high) / self.best, self.volume(points, self.easy) / self.easy_best


class History:
    """What a search had whenever its front grew, and at its end.

    Args:
        here: where it is measured.
    """

    def __init__(self, here: World) -> None:
        self.here, self.rows = here, [(0, 0.0, 0, 0.0, 0.0)]
        self._points: Points | None = None

    def add(self, steps: int, seconds: float, confirming: int, points: Points) -> None:
        """A look at a search: steps and seconds of training so far, steps that confirming it would take, its points."""
        shares = self.rows[-1][3:] if points is self._points else self.here.shares(points)
        self._points = points
        if shares == self.rows[-1][3:] and len(self.rows) > 1 and self.rows[-2][3:] == shares:
            self.rows.pop()
        self.rows.append((steps, seconds, confirming, *shares))

    def reached(self, share: float, box: int = 3) -> dict[str, Any]:
        """Steps and seconds until a share, with the confirmation; where it is not reached, all there were."""
        row = next((row for row in self.rows if row[box] >= share), None)
        steps, seconds, confirming = (row or self.rows[-1])[:3]
        whole = (steps + confirming) / steps if steps else 1.0
        return {"steps": steps + confirming, "seconds": round(seconds * whole, 2), "reached": row is not None}


def logged(points: Points) -> Points:
    """Errors as they are, costs as log10."""
    points = points.reshape(-1, points.shape[-1]).copy()
    points[:, 1:] = np.log10(np.maximum(points[:, 1:], 1e-30))
    return points


@cache
def world() -> World:
    """The recorded table, read once a process."""
    return World(load_search_space(SPACE))


def replay(method: str, seed: int, n_pe: int | None = None) -> Run:
    """One search on the table."""
    here = world()
    began = time.monotonic()
    history = _plain(here, method, seed, n_pe) if method in PLAIN else _ours(here, method, seed)
    steps, seconds, confirming, shares, easy = zip(*history.rows, strict=True)
    return {
        "method": method,
        "n_pe": n_pe,
        "seed": seed,
        "settings": _settings(method),
        "steps": steps,
        "seconds": [round(value, 2) for value in seconds],
        "confirming": confirming,
        "hypervolume": [round(value, 5) for value in shares],
        "to_share": history.reached(SHARE),
        "to_easy_share": history.reached(SHARE, box=4),
        "replay_seconds": round(time.monotonic() - began, 2),
    } | {"easy_hypervolume": round(easy[-1], 5)}


def _settings(method: str) -> dict[str, Any]:
    """What a stored run must share with a method to stand for it."""
    known = {"starts": list(STARTS)} if method == KNOWN else {}
    return METHODS.get(method, {}) | known | {"trials": TRIALS[method in PLAIN], "cost_model": hardware.VERSION}


def _plain(here: World, method: str, seed: int, n_pe: int | None) -> History:
    """What an engineer does with Optuna alone: ask, train to the end, cost, tell."""
    space, history = _pinned(here.space, n_pe), History(here)
    study = optuna.create_study(directions=["minimize"] * len(space.objectives), sampler=PLAIN[method](seed))
    steps, seconds, points = 0, 0.0, np.zeros((0, len(space.objectives)))
    goal = SHARE * attainable(here)[n_pe] if n_pe is not None else SHARE
    for _ in range(TRIALS[True]):
        trial = study.ask()
        design, recipe = suggested(space, trial)
        key = key_of(design.network)
        trained = here.luck(key, 0, seed)
        steps += recipe.total_epochs * here.steps_per_epoch
        seconds += here.seconds[trained]
        cost = space.cost(design)
        row = cost.row()
        fits = constrain(trial, space, cost)
        costs = here.costs(row)
        study.tell(trial, [here.curves[trained][-1], *np.log10(np.maximum(costs, 1e-30))])
        point = logged(np.array([[here.mean[key], *costs]]))
        if fits and not (points <= point).all(1).any():
            points = np.vstack([points, point])
            points = points[non_dominated(points)]
        history.add(steps, seconds, 0, points)
        if min(history.rows[-1][3:]) >= SHARE or (n_pe is not None and history.rows[-1][3] >= goal):
            break
    return history


def constrain(trial: optuna.Trial, space: SearchSpace, cost: Cost) -> bool:
    """Tell a plain trial by how much its design breaks each limit; whether it breaks none and runs."""
    row = cost.row()
    over = {name: float(row[name] or 0.0) / limit - 1.0 for name, limit in space.limits.items()}
    over["runs"] = float(not cost.feasible[0])
    for name, value in over.items():
        trial.set_constraint(name, value)
    return max(over.values()) <= 0


def _pinned(space: SearchSpace, n_pe: int | None) -> SearchSpace:
    if n_pe is None:
        return space
    accelerator = {**space.tree["accelerator"], "n_pe": n_pe}  # type: ignore[dict-item]
    return replace(space, tree={**space.tree, "accelerator": accelerator})


def _ours(here: World, method: str, seed: int) -> History:
    """Our engine with its trainer looked up."""
    space = here.space.changed(**METHODS[method], seed=seed, trials=TRIALS[False])
    if method == KNOWN:
        space = replace(space, starts=STARTS)
    history = History(here)
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder:
        records = Records(Path(folder), create=True, study=space.name)
        records.set("search_space", space.text)
        records.set("box", {"ideal": here.low.tolist(), "reference": here.easy.tolist()})
        results = Results(folder)
        results.space, results.records = space, records
        told = optuna.create_study(directions=["minimize"] * len(space.objectives))  # in memory: quicker, the same
        proposals = Proposals(space, records, told)
        known: dict[tuple[str, int], list[float]] = {}
        points = logged(np.zeros((0, len(space.objectives))))

        def on_progress(phase: str) -> None:
            nonlocal points
            before = len(known)
            for row in results.trained():
                name = row.network_key, row.design.accelerator.n_pe
                if row.feasible and name not in known:
                    known[name] = [here.mean[key_of(row.design.network)], *here.costs(row.cost)]
            if len(known) > before:
                points = logged(np.array(list(known.values())))
            steps, seconds = records.spent()
            confirming = 0
            if method not in NOT_OURS:
                members, trainings = {row.network_key for row in results.candidates()}, records.trainings()
                missing = sum((key, seed + extra) not in trainings for key in members for extra in range(len(SEEDS)))
                confirming = missing * epochs * here.steps_per_epoch
            history.add(steps, seconds, confirming, points)
            if min(history.rows[-1][3:]) >= SHARE and method != FLAT:
                raise Enough

        epochs = int(str(space.tree["recipe"]["epochs"]))  # type: ignore[index]
        with Leases(records) as leases:
            worker = Worker(space, results, proposals, leases, on_progress)
            Replayed(
                worker,
                here.steps_per_epoch,
                lambda job: here.curves[_luck(here, job, seed)],
                lambda job: here.seconds[_luck(here, job, seed)],
            )
            try:
                worker.search()
            except Enough:
                pass
    return history


class Enough(Exception):
    """The share is reached."""


def _luck(here: World, job: Job, shift: int) -> tuple[str, int]:
    return here.luck(key_of(job.network), job.seed, shift)


def attainable(here: World) -> dict[int, float]:
    """Share of the hypervolume that the whole space reaches with one n_pe alone."""
    sizes = here.space.knobs["accelerator.n_pe"].values
    return {int(n): here.shares(here.front_of(lambda n_pe, n=n: n_pe == n))[0] for n in sizes}  # type: ignore[misc]


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """A row a method: median steps to the share, quartiles, runs that reached it."""
    rows = []
    for method, n_pe in dict.fromkeys((run["method"], run["n_pe"]) for run in runs):
        mine = [run for run in runs if (run["method"], run["n_pe"]) == (method, n_pe)]
        if n_pe is not None or method == FLAT:
            continue
        found = {"method": method, "replays": len(mine)}
        for name in ("to_share", "to_easy_share"):
            steps = sorted(run[name]["steps"] for run in mine)
            reached = sum(run[name]["reached"] for run in mine)
            found[name] = {
                "steps_median": median(steps),
                "steps_quartiles": [float(np.quantile(steps, q)) for q in (0.25, 0.75)],
                "seconds_median": median(run[name]["seconds"] for run in mine),
                "reached": reached / len(mine),
                "at_least": reached * 2 <= len(mine),
            }
        rows.append(found)
    return rows


def flat(runs: list[Run]) -> dict[str, Any] | None:
    """Where searches end that decide by themselves when more training hardly pays."""
    mine = [run for run in runs if run["method"] == FLAT]
    if not mine:
        return None
    steps = [run["steps"][-1] + run["confirming"][-1] for run in mine]
    ends = [run["hypervolume"][-1] for run in mine]
    return {
        "replays": len(mine),
        "steps_median": median(steps),
        "steps_quartiles": [float(np.quantile(steps, q)) for q in (0.25, 0.75)],
        "hypervolume_median": median(ends),
        "hypervolume_quartiles": [float(np.quantile(ends, q)) for q in (0.25, 0.75)],
    }


def pinned(here: World, runs: list[Run]) -> dict[str, Any] | None:
    """What is left of the gain when a plain search is given the one n_pe with which most can be reached."""
    best, share = max(attainable(here).items(), key=lambda pair: pair[1])
    theirs = [run for run in runs if run["n_pe"] == best]
    ours = [run for run in runs if run["method"] == "codesign"]
    if not theirs or not ours:
        return None
    goal = SHARE * share
    steps = {name: median(_until(run, goal) for run in mine) for name, mine in (("ours", ours), ("theirs", theirs))}
    return {
        "method": theirs[0]["method"],
        "n_pe": best,
        "attainable": share,
        "goal": goal,
        "replays": len(theirs),
        "steps_median": steps["theirs"],
        "ours_steps_median": steps["ours"],
        "ratio": steps["theirs"] / steps["ours"],
    }


def _until(run: Run, share: float) -> int:
    at = next((i for i, value in enumerate(run["hypervolume"]) if value >= share), -1)
    return int(run["steps"][at] + run["confirming"][at])


def markdown(content: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "# Hypervolume against training steps",
        "",
        "`python -m benchmarks.search_efficiency`: searches replayed on recorded learning curves (360 networks, three",
        f"seeds, ru_phones mini). Optimizer steps until {SHARE:.0%} of the hypervolume of the whole space's front,",
        "counted from the worst of the space in each objective; ours include the confirmation of the front with three",
        "seeds. In the last columns the worst error is that of a guess, which makes nearly everything count.",
        "",
        "| search | replays | reached | steps, median | quartiles | ratio to codesign | training s | easy box: steps "
        "| ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = next(row for row in content["rows"] if row["method"] == "codesign")
    for row in content["rows"]:
        cells = []
        for name in ("to_share", "to_easy_share"):
            found, ours = row[name], first[name]
            sign = ">= " if found["at_least"] else ""
            ratio = f"{sign}{found['steps_median'] / ours['steps_median']:.2f}"
            cells.append((sign + f"{found['steps_median']:,.0f}", ratio, found))
        (steps, ratio, found), (easy, easy_ratio, _) = cells
        low, high = found["steps_quartiles"]
        lines.append(
            f"| {row['method']} | {row['replays']} | {found['reached']:.0%} | {steps} | {low:,.0f} to {high:,.0f} "
            f"| {ratio} | {found['seconds_median']:,.0f} | {easy} | {easy_ratio} |"
        )
    lines += ["", f"steps_ratio_median against the best plain sampler: {content['steps_ratio_median']:.2f}"]
    if content["pinned"]:
        one = content["pinned"]
        lines += [
            "",
            f"With n_pe = {one['n_pe']} alone {one['attainable']:.1%} of the hypervolume can be reached, with any",
            f"other less. {one['method']} pinned to it needs {one['steps_median']:,.0f} steps to {SHARE:.0%} of that,",
            f"codesign {one['ours_steps_median']:,.0f} to the same hypervolume: a factor of {one['ratio']:.2f} stays.",
        ]
    if content["flat"]:
        one = content["flat"]
        low, high = one["steps_quartiles"]
        worst, best = one["hypervolume_quartiles"]
        lines += [
            "",
            f"With stop_when_flat a search ends by itself, in the median of {one['replays']} replays after",
            f"{one['steps_median']:,.0f} steps (quartiles {low:,.0f} to {high:,.0f}, confirmation included) with",
            f"{one['hypervolume_median']:.1%} of the hypervolume ({worst:.1%} to {best:.1%}).",
        ]
    return "\n".join(lines) + "\n"


def plot(runs: list[Run], path: Path) -> None:
    """Median hypervolume over steps and over seconds of training, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for axis, field, label in zip(axes, ("steps", "seconds"), ("optimizer steps", "seconds of training"), strict=True):
        for method in ("codesign", *PLAIN, NOT_OURS[0]):
            mine = [run for run in runs if run["method"] == method and run["n_pe"] is None]
            if not mine:
                continue
            spent = np.concatenate([run[field] for run in mine])
            grid = np.geomspace(spent[spent > 0].min(), spent.max(), 200)
            curves = [_curve(run, field, grid) for run in mine]
            axis.plot(grid, np.median(curves, 0), label=method)
            axis.fill_between(grid, np.quantile(curves, 0.25, 0), np.quantile(curves, 0.75, 0), alpha=0.15)
        axis.axhline(SHARE, color="grey", linewidth=0.8, linestyle="--")
        axis.set(xscale="log", xlabel=f"{label}, confirmation left out", ylim=(0, 1.02))
    axes[0].set_ylabel("hypervolume, share of the best front")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def _curve(run: Run, field: str, grid: Points) -> Points:
    """A run's hypervolume at given steps; it stays where the run was ended."""
    at = np.maximum(np.searchsorted(run[field], grid, "right") - 1, 0)
    return np.asarray(np.array(run["hypervolume"])[at])


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="replays of each method")
    parser.add_argument("--workers", type=int, default=len(cores()), help="replays side by side")
    options = parser.parse_args()
    known: list[Run] = []
    if OUTPUT.with_suffix(".json").exists():
        known = json.loads(OUTPUT.with_suffix(".json").read_text())["runs"]
    one_n_pe = max(attainable(world()).items(), key=lambda pair: pair[1])[0]
    pairs: list[tuple[str, int | None]] = [(method, None) for method in (*METHODS, *PLAIN)]
    pairs += [(method, one_n_pe) for method in PLAIN if method == "plain tpe"]
    jobs = [(method, seed, n_pe) for seed in range(options.seeds) for method, n_pe in pairs]
    known = [run for run in known if run["settings"] == _settings(run["method"])]
    done = {(run["method"], run["seed"], run["n_pe"]) for run in known}
    jobs = [job for job in jobs if job not in done]
    for count, run in enumerate(answers("replays", options.workers, replay, jobs), 1):
        known.append(run)
        if count % 20 == 0:
            _write(known)
    _write(known)
    plot(known, OUTPUT.with_suffix(".png"))
    print(OUTPUT.with_suffix(".md").read_text())


def _write(runs: list[Run]) -> None:
    order = [*METHODS, *PLAIN]
    runs.sort(key=lambda run: (order.index(run["method"]), run["n_pe"] or 0, run["seed"]))
    rows = summary(runs)
    medians = {row["method"]: row["to_share"]["steps_median"] for row in rows}
    if "codesign" not in medians or not any(name in medians for name in PLAIN):
        return
    ratio = min(medians[name] for name in PLAIN if name in medians) / medians["codesign"]
    tables = {"rows": rows, "steps_ratio_median": ratio, "pinned": pinned(world(), runs), "flat": flat(runs)}
    content: dict[str, Any] = tables | {"runs": runs}
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(content).replace('{"method"', '\n{"method"') + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))
    OUTPUT.with_suffix(".md").write_text(markdown(content))


if __name__ == "__main__":
    main()
