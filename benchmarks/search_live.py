"""How long until the front is there, with codesign and with Optuna and PyTorch the plain way?

    python -m benchmarks.search_live [--seeds N] [--minutes M]

Both search the same space (`search_live.toml`) for real, one after the other on the same machine, each in a process of
its own: codesign as a user runs it, its confirmation with three seeds counted; Optuna's TPE with its default settings,
every trial trained to the end by the eager PyTorch loop of `plain_pytorch`. The clock runs until the designs trained so
far cover 95 % of the hypervolume of the space's best front. What a design is worth is looked up in the recorded
learning curves (`benchmarks.learning_curves`: mean error of three seeds), the same for both. The plain script is ended
after so many minutes; a run that did not get there counts them and is marked >=.

The same by codesign alone on the 360 networks of the replays (`benchmarks.search_efficiency`): its steps beside theirs.

Writes results/reference/search_live.md and .json. Needs `pip install torch`. An hour and a half. Resumable.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
import optuna

from benchmarks.learning_curves import SPACE as REPLAYED
from benchmarks.learning_curves import key_of
from benchmarks.search_efficiency import OURS, SHARE, TRIALS, Enough, World, constrain, logged
from benchmarks.search_efficiency import OUTPUT as REPLAYS
from codesign import hardware, training
from codesign.design import Network, Recipe
from codesign.search.front import non_dominated
from codesign.search.proposals import suggested
from codesign.search.space import SearchSpace, load_search_space
from codesign.search.study import Progress, Study

SPACE = Path(__file__).parent / "search_live.toml"
OUTPUT = REPLAYS.with_name("search_live")
LARGE = "codesign, 360 networks"
SIDES = ("codesign", "Optuna and PyTorch", LARGE)

Run = dict[str, Any]


class Clock:
    """Seconds, optimizer steps and hypervolume of a search as it goes.

    Args:
        here: what designs are worth.
    """

    def __init__(self, here: World) -> None:
        self.here, self.began = here, time.monotonic()
        self.points = np.zeros((0, len(here.space.objectives)))
        self.history: list[tuple[float, int, float]] = []

    def add(self, network: Network, cost: dict[str, float | int | None]) -> None:
        """A design that was trained and keeps the limits."""
        worth = [self.here.mean[key_of(network)], *self.here.costs(cost)]
        points = np.vstack([self.points, logged(np.array([worth]))])
        self.points = points[non_dominated(points)]

    def look(self, steps: int) -> bool:
        """Whether the share is reached."""
        share = self.here.shares(self.points)[0]
        self.history.append((round(time.monotonic() - self.began, 1), steps, round(share, 4)))
        return share >= SHARE


def ours(space: SearchSpace, seed: int, minutes: float) -> Run:
    """A codesign study, ended when the share is reached, and confirmed."""
    here = World(space)
    clock = Clock(here)
    with tempfile.TemporaryDirectory(prefix="codesign-") as folder, tempfile.TemporaryDirectory() as programs:
        jax.config.update("jax_compilation_cache_dir", programs)  # type: ignore[no-untyped-call]
        study = Study(space.changed(seed=seed), folder)
        seen: set[tuple[str, int]] = set()

        def on_progress(progress: Progress) -> None:
            for row in study.results.trained():
                name = row.network_key, row.design.accelerator.n_pe
                if row.feasible and name not in seen:
                    seen.add(name)
                    clock.add(row.design.network, row.cost)
            if clock.look(study.records.spent()[0]) and progress.phase == "search":
                raise Enough

        try:
            study.run(on_progress)
            reached = clock.history[-1][2] >= SHARE
        except Enough:
            reached = True
        searched = time.monotonic() - clock.began
        study.confirm()
        return _run(clock, reached, study.records.spent()[0], searched)


def plain(space: SearchSpace, seed: int, minutes: float) -> Run:
    """What is written today: Optuna's ask and tell around a PyTorch loop."""
    from benchmarks.plain_pytorch import train_plain

    here = World(space)
    clock = Clock(here)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(directions=["minimize"] * len(space.objectives), sampler=sampler)
    steps, reached = 0, False
    while not reached and time.monotonic() - clock.began < 60 * minutes:
        trial = study.ask()
        design, recipe = suggested(space, trial)
        error = train_plain(design.network, recipe, space.task, seed)[-1]
        steps += recipe.total_epochs * training.steps_per_epoch(recipe, space.task)
        cost = space.cost(design)
        row = cost.row()
        fits = constrain(trial, space, cost)
        study.tell(trial, [error, *np.log10(np.maximum(here.costs(row), 1e-30))])
        if fits:
            clock.add(design.network, row)
        reached = clock.look(steps)
    return _run(clock, reached, steps, time.monotonic() - clock.began)


def _run(clock: Clock, reached: bool, steps: int, searched: float) -> Run:
    return {
        "reached": reached,
        "seconds": round(time.monotonic() - clock.began, 1),
        "search_seconds": round(searched, 1),
        "steps": steps,
        "history": clock.history,
    }


def measure(side: str, seed: int, minutes: float, answers: Any) -> None:
    """One run, in a process of its own and with no programs compiled before; the data are read beforehand."""
    space = load_search_space(SPACE)
    if side == LARGE:
        space = load_search_space(REPLAYED).changed(**OURS, trials=TRIALS[False])
    search = plain if side == "Optuna and PyTorch" else ours
    answers.put({"side": side, "seed": seed} | search(space, seed, minutes))


def settings(minutes: float) -> dict[str, Any]:
    """What stored runs must share."""
    recipe = Recipe.model_validate(load_search_space(SPACE).tree["recipe"])
    return {
        "space": SPACE.read_text(),
        "replayed": [REPLAYED.read_text(), OURS],
        "epochs": recipe.total_epochs,
        "minutes": minutes,
        "versions": [hardware.VERSION, training.VERSION],
    }


def markdown(content: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "# Time to the front, live",
        "",
        f"`python -m benchmarks.search_live`: wall seconds until {SHARE:.0%} of the best hypervolume of the space in",
        "`benchmarks/search_live.toml`, codesign's confirmation included, on the same machine in turn. The plain side",
        f"is Optuna's TPE around an eager PyTorch loop, ended after {content['settings']['minutes']:g} minutes (>=);",
        "ours ends with its trials, before the share is reached or after (>=).",
        "",
        "| seed | codesign: s | of it search | steps | Optuna and PyTorch: s | steps | ratio of seconds | of steps "
        "| hypervolume in the end |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for ours, theirs in content["pairs"]:
        mine, other = ("" if run["reached"] else ">= " for run in (ours, theirs))
        bound = {("", ""): "", ("", ">= "): ">= ", (">= ", ""): "<= "}.get((mine, other), "neither: ")
        lines.append(
            f"| {ours['seed']} "
            f"| {mine}{ours['seconds']:,.0f} | {ours['search_seconds']:,.0f} | {mine}{ours['steps']:,} "
            f"| {other}{theirs['seconds']:,.0f} | {other}{theirs['steps']:,} "
            f"| {bound}{theirs['seconds'] / ours['seconds']:.1f} | {bound}{theirs['steps'] / ours['steps']:.1f} "
            f"| {ours['history'][-1][2]:.1%}, {theirs['history'][-1][2]:.1%} |"
        )
    if content["pairs"]:
        lines += [
            "",
            f"seconds_ratio_median: {content['seconds_ratio_median']:.1f}, "
            f"steps_ratio_median: {content['steps_ratio_median']:.1f}",
        ]
    if content["live"]:
        steps = [run["to_share"]["steps"] for run in content["replays"]]
        low, middle, high = np.quantile(steps, (0.05, 0.5, 0.95))
        lines += [
            "",
            f"On the 360 networks of the replays, which took {middle:,.0f} steps in the median (90 % of them",
            f"{low:,.0f} to {high:,.0f}), codesign took, live, confirmation included:",
            "",
            "| seed | steps | seconds | of it search | hypervolume in the end |",
            "|---|---|---|---|---|",
        ]
    for run in content["live"]:
        mark = "" if run["reached"] else ">= "
        lines.append(
            f"| {run['seed']} | {mark}{run['steps']:,} | {mark}{run['seconds']:,.0f} | {run['search_seconds']:,.0f} "
            f"| {run['history'][-1][2]:.1%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each side")
    parser.add_argument("--minutes", type=float, default=12.0, help="after which the plain script is ended")
    options = parser.parse_args()
    wanted = settings(options.minutes)
    runs: list[Run] = []
    if OUTPUT.with_suffix(".json").exists():
        before = json.loads(OUTPUT.with_suffix(".json").read_text())
        runs = before["runs"] if before["settings"] == wanted else []
    context = multiprocessing.get_context("spawn")
    for seed in range(options.seeds):
        for side in SIDES:
            if any((run["side"], run["seed"]) == (side, seed) for run in runs):
                continue
            answers = context.Queue()
            process = context.Process(target=measure, args=(side, seed, options.minutes, answers))
            process.start()
            while answers.empty() and process.is_alive():
                time.sleep(0.5)
            if answers.empty():
                raise SystemExit(f"{side}, seed {seed}: ended without an answer")
            runs.append(answers.get())
            process.join()
            _write(wanted, runs)
    print(OUTPUT.with_suffix(".md").read_text())


def _write(wanted: dict[str, Any], runs: list[Run]) -> None:
    small, pytorch, large = ({run["seed"]: run for run in runs if run["side"] == side} for side in SIDES)
    pairs = [(small[seed], pytorch[seed]) for seed in small if seed in pytorch]
    content: dict[str, Any] = {"settings": wanted, "pairs": pairs}
    for field in ("seconds", "steps"):
        ratios = [theirs[field] / ours[field] for ours, theirs in pairs]
        content[f"{field}_ratio_median"] = median(ratios) if ratios else None
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps({**content, "pairs": len(pairs), "runs": runs}, indent=1) + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))
    replays = json.loads(REPLAYS.with_suffix(".json").read_text())["runs"]
    table = {"live": list(large.values()), "replays": [run for run in replays if run["method"] == "codesign"]}
    OUTPUT.with_suffix(".md").write_text(markdown(content | table))


if __name__ == "__main__":
    main()
