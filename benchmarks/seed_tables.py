"""What stored trainings say about the claims of the six systems: the tables of `benchmarks.seed_claims`."""

from math import sqrt
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from benchmarks.seed_cases import BASELINES, COMBINATIONS, LONGER, Case
from benchmarks.seed_targets import CLAIMS, Claim
from codesign import training
from codesign.design import Network, Recipe
from codesign.hardware.workload import workload

Run = dict[str, Any]
"""A training, as the JSON file holds it."""

COMBINED_SEEDS = 3


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
    """What came of a claim, judged when all its pairs are done; None before its first."""
    pairs = [
        (ours, theirs)
        for seed in range(claim.n_seeds)
        if (ours := find(runs, claim.result, cases[claim.result], seed))
        and (theirs := find(runs, claim.baseline, cases[claim.baseline], seed))
    ]
    if not pairs:
        return None
    case, complete = cases[claim.result], len(pairs) == claim.n_seeds
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
        values = [_saved(claim.quantity, case, *pair) for pair in pairs]
        return found | {
            "baseline": None,
            "result": mean(values),
            "std": stdev(values) if len(values) > 1 else 0.0,
            "ci95": None,
            "target": f">= {claim.least:g}",
            "met": min(values) >= claim.least if complete else None,
        }
    results, baselines = [_error(run) for run, _ in pairs], [_error(run) for _, run in pairs]
    rises = _rises(claim, results, baselines)
    on_validation = _rises(claim, *([run["error_val"] for run in side] for side in zip(*pairs, strict=True)))
    middle = float(np.mean(rises))
    spread, ci95, p, met = None, _ci95(rises), None, None
    if ci95:
        spread = stdev(rises)
        p = float(stats.ttest_rel(results, baselines, alternative="less").pvalue)
        if claim.limit is not None and complete:
            worst = ci95[1] if claim.sense == "upper" else middle
            met = worst <= claim.limit and (claim.sense != "better" or p < 0.05)
    return found | {
        "baseline": mean(baselines),
        "result": mean(results),
        "rise": middle,
        "rise_val": float(np.mean(on_validation)),
        "std": spread,
        "ci95": ci95,
        "p_better": p,
        "target": _target(claim),
        "met": met,
        "unit": "relative" if claim.relative else case.task.metric.unit,
        "training_losses": [mean(run["losses"][-1] for run in side) for side in zip(*pairs, strict=True)],
    }


def _rises(claim: Claim, results: list[float], baselines: list[float]) -> Any:
    rises = np.array(results) - np.array(baselines)
    return rises / np.array(baselines) if claim.relative else rises


def _error(run: Run) -> float:
    """Of drawn words where there are any: that is what the papers report."""
    drawn = run["error_test_drawn"]
    return float(run["error_test"] if drawn is None else drawn)


def _saved(quantity: str, case: Case, ours: Run, dense_run: Run) -> float:
    if quantity == "zeros":
        return float(ours["zeros"])
    if quantity == "weights_12":
        kernels = [kernel for layer in workload(case.network, case.task.shape).layers for kernel in layer.kernels]
        bits = sum(kernel.n_words * kernel.word_length + kernel.index_bits for kernel in kernels)
        return 12.0 * float(dense_run["kernel_words"]) / bits
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


def content(cases: dict[str, Case], runs: list[Run]) -> dict[str, Any]:
    """Of the JSON file: all claims and combinations of which at least one pair is done, and the trainings."""
    rows = [found for claim in CLAIMS if claim.result in cases and (found := row(claim, cases, runs))]
    far = {name: _convergence(name, cases, runs) for name in BASELINES if name in cases}
    return {
        "rows": rows,
        "convergence": {name: found for name, found in far.items() if found},
        "combinations": combinations(cases, runs),
        "runs": runs,
    }


def _convergence(name: str, cases: dict[str, Case], runs: list[Run]) -> dict[str, Any] | None:
    """Of a baseline's first training: its last two losses, its validation error and that after twice the epochs."""
    run = find(runs, name, cases[name], 0)
    if run is None:
        return None
    longer = LONGER.get(name)
    twice = find(runs, longer, cases[longer], 0) if longer else None
    return {
        "training_losses": run["losses"][-2:],
        "error_val": run["error_val"],
        "error_val_twice": twice["error_val"] if twice else None,
    }


def combinations(cases: dict[str, Case], runs: list[Run]) -> list[dict[str, Any]]:
    """What ingredients of several systems need for the error of one system's own network."""
    found = []
    for system, own, combined in COMBINATIONS:
        if not {own, combined} <= cases.keys():
            continue
        seeds = [s for s in range(COMBINED_SEEDS) if all(find(runs, name, cases[name], s) for name in (own, combined))]
        if seeds:
            ours, theirs = ([find(runs, name, cases[name], s) or {} for s in seeds] for name in (combined, own))
            rises = np.array([_error(run) for run in ours]) - np.array([_error(run) for run in theirs])
            sides = {"own": _figures(own, theirs), "combined": _figures(combined, ours)}
            rise = {"rise": float(rises.mean()), "ci95": _ci95(rises)}
            found.append({"system": system, "seeds": len(seeds), **sides, **rise})
    return found


def _figures(name: str, runs: list[Run]) -> dict[str, Any]:
    """Means over seeds; cycles on the accelerator that needs fewest."""
    cycles = {kind: mean(run["cycles"][kind] for run in runs) for kind in runs[0]["cycles"]}
    fastest = min(cycles, key=lambda kind: cycles[kind])
    return {
        "case": name,
        "error": mean(_error(run) for run in runs),
        "storage_bits": runs[0]["storage_bits"],
        "operations": mean(run["operations"] for run in runs),
        "cycles": cycles[fastest],
        "accelerator": fastest,
        "zeros": mean(run["zeros"] for run in runs),
    }


def _ci95(values: Any) -> list[float] | None:
    """Of a mean; None of a single value."""
    if len(values) < 2:
        return None
    middle = float(np.mean(values))
    reach = stdev(values) / sqrt(len(values)) * float(stats.t.ppf(0.975, len(values) - 1))
    return [middle - reach, middle + reach]


def markdown(tables: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        "# What the six systems' algorithms keep",
        "",
        "`python -m benchmarks.seed_claims`: test data, the dense float network of the same shape, recipe and budget",
        "as baseline, paired differences over seeds with 95 % intervals. Errors are in the task's unit (shares of",
        "wrong answers, bits per character, perplexity); a rise is the result's error less the baseline's.",
        f"All {len(tables['runs'])} trainings took {sum(run['seconds'] for run in tables['runs']) / 3600:.1f} hours by "
        "the clock, each on one core.",
        "",
        "| system | claim | setting | baseline | result | rise | 95 % interval | seeds | target | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_claim_line, tables["rows"]),
    ]
    notes = [_note(one) for one in tables["rows"] if one["note"] or one["met"] is False]
    lines += ["", *notes] if notes else []
    lines += ["", "How far the baselines are from convergence (seed 0; training losses in nats):", ""]
    lines += [_convergence_line(name, found) for name, found in tables["convergence"].items()]
    if tables["combinations"]:
        lines += [
            "",
            "## Ingredients of several systems together",
            "",
            "Each system's own network and a combination on the same task (test data). Operations are the multiply-",
            "accumulates of a step, those on zero states left out; cycles are a step's on the accelerator that",
            "needs fewest with 16 multipliers, or as near to that as the kind comes (`LANES`).",
            "Rises with 95 % intervals.",
            "",
            "| system | network | error | bits stored | operations | cycles | accelerator | rise, 95 % | seeds |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for one in tables["combinations"]:
            span = "-" if one["ci95"] is None else f"{one['ci95'][0]:+.4f} to {one['ci95'][1]:+.4f}"
            for side, rise in (("own", "|"), ("combined", f"{one['rise']:+.4f}, {span} | {one['seeds']}")):
                lines.append(_network_line(one["system"], one[side], rise))
    return "\n".join(lines) + "\n"


def _note(one: dict[str, Any]) -> str:
    """What is to be said of a claim; of one not met also how both sides do on validation and training data."""
    text = f"- {one['case']} against {one['against']}, {one['claim']}: {one['note']}"
    if one["met"] is not True and one["baseline"] is not None:
        ours, theirs = one["training_losses"]
        factor, unit = _written(one)
        text += f"{'; ' * bool(one['note'])}on validation data {factor * one['rise_val']:+.4f}{unit}; "
        text += f"training loss in the end {ours:.2f}, the baseline's {theirs:.2f} nats"
    return text


def _convergence_line(name: str, found: dict[str, Any]) -> str:
    text = (
        f"- {name}: training loss {' -> '.join(f'{loss:.3f}' for loss in found['training_losses'])} in the last epoch"
    )
    if found["error_val_twice"] is not None:
        text += f"; validation error {found['error_val']:.4f}, with twice the epochs {found['error_val_twice']:.4f}"
    return text


def _written(one: dict[str, Any]) -> tuple[int, str]:
    """By what a rise is multiplied, and its unit."""
    return (100, " %") if one["unit"] == "relative" else (1, "")


def _claim_line(one: dict[str, Any]) -> str:
    met = {None: "-", True: "yes", False: "**no**"}[one["met"]]
    if one["baseline"] is None:
        figures = f"| | {one['result']:.4g} | | "
    else:
        factor, unit = _written(one)
        span = "-"
        if one["ci95"]:
            low, high = (factor * end for end in one["ci95"])
            span = f"{low:+.4f} to {high:+.4f}{unit}"
        rise = f"{factor * one['rise']:+.4f}{unit}"
        figures = f"| {one['baseline']:.4f} | {one['result']:.4f} | {rise} | {span} "
    return (
        f"| {one['system']} | {one['claim']} | {one['setting']} {figures}| {one['seeds']} | {one['target']} | {met} |"
    )


def _network_line(system: str, side: dict[str, Any], rise: str) -> str:
    figures = f"{side['error']:.4f} | {side['storage_bits']:,} | {side['operations']:,.0f} | {side['cycles']:,.0f}"
    return f"| {system} | {side['case']} | {figures} | {side['accelerator']} | {rise} |"
