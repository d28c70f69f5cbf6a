"""What does a block size cost in accuracy, and what does it save in the whole model?

    python -m benchmarks.block_size [--quick]

Trains GRU and LSTM of 32, 64, 128 and 256 units with block-circulant input and recurrent kernels of
block 1, 2, 4, 8, 16 at 8 bits on ru_phones (mini, and 128 units on the full corpus), three seeds each,
and writes results/reference/block_size.md and .json. Resumable: a finished training is not run again.
About half an hour on two idle cores; the `seconds` of a run are wall time beside whatever else the
machine did. Training is direct (no ADMM, no dense parent), so the figures are what this recipe reaches,
not what the method can.
"""

import argparse
import json
import os
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.progress import track

from codesign import hardware, tasks, training
from codesign.compression import BlockCirculant
from codesign.design import Accelerator, Fixed, Kernel, Network, PiecewiseLinear, Recipe

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "block_size"
BLOCKS = (1, 2, 4, 8, 16)
SEEDS = (0, 1, 2)
SHAPES = [
    *((cell, hidden, "mini") for cell, hidden in product(("gru", "lstm"), (32, 64, 128, 256))),
    *((cell, 128, "full") for cell in ("gru", "lstm")),
]
RECIPE = Recipe()


def network(cell: str, hidden: int, block: int) -> Network:
    """Both kernels block-circulant, 8-bit weights and activations, 32 segments."""
    kernel = Kernel(structure=BlockCirculant(block_size=block), weights=Fixed(bits=8))
    return Network.model_validate(
        {"cell": cell, "hidden": hidden, "input_kernel": kernel, "recurrent_kernel": kernel}
        | {"activation_function": PiecewiseLinear(segments=32)}
    )


def measure(cell: str, hidden: int, subset: str, block: int, seed: int) -> dict[str, Any]:
    """One training, evaluated on validation and test data."""
    net, task = network(cell, hidden, block), tasks.find("ru_phones", subset=subset)
    trained = training.train([net], RECIPE, task, [seed])[0]
    model = training.restore(net, task, seed, trained.weights)
    metrics = {part: training.evaluate(model, task, part).metrics for part in ("validation", "test")}
    return {
        "cell": cell,
        "hidden": hidden,
        "subset": subset,
        "block_size": block,
        "seed": seed,
        "seconds": round(trained.seconds, 1),
        "error_val": metrics["validation"]["error"],
        "error_test": metrics["test"]["error"],
        "phone_error_rate_test": metrics["test"]["phone_error_rate"],
    }


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per shape and block: mean and spread of the seeds, bits of the whole model."""
    task = tasks.find("ru_phones")
    rows = []
    for (cell, hidden, subset), block in product(SHAPES, BLOCKS):
        key = {"cell": cell, "hidden": hidden, "subset": subset, "block_size": block}
        seeds = [run for run in runs if key.items() <= run.items()]
        if not seeds:
            continue
        net = network(cell, hidden, block)
        bits = hardware.estimate(net, Accelerator(), task.shape).row()["storage_bits"]
        dense = hardware.estimate(network(cell, hidden, 1), Accelerator(), task.shape).row()["storage_bits"]
        assert bits is not None and dense is not None
        row: dict[str, Any] = {**key, "seeds": len(seeds), "storage_bits": bits, "ratio_to_dense_8_bit": dense / bits}
        for name in ("error_val", "error_test", "phone_error_rate_test"):
            values = [run[name] for run in seeds]
            row[name] = mean(values)
            row[f"{name}_std"] = stdev(values) if len(values) > 1 else 0.0
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [
        "# Block size against accuracy and memory",
        "",
        "`python -m benchmarks.block_size`: ru_phones, block-circulant input and recurrent kernels trained directly,",
        f"8-bit weights and activations, {RECIPE.epochs} epochs, mean and standard deviation of {len(SEEDS)} seeds.",
        "Bits are those of the whole model: kernels with padding, biases (16 bits), head. Block 1 is dense.",
        "",
        "| cell | hidden | corpus | block | whole model, kbit | times smaller than dense "
        "| validation error, % | test error, % | phone error rate (test), % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        errors = " | ".join(
            f"{100 * row[name]:.1f} ± {100 * row[f'{name}_std']:.1f}"
            for name in ("error_val", "error_test", "phone_error_rate_test")
        )
        lines.append(
            f"| {row['cell']} | {row['hidden']} | {row['subset']} | {row['block_size']} "
            f"| {row['storage_bits'] / 1000:.1f} | {row['ratio_to_dense_8_bit']:.2f} "
            f"| {errors} |"
        )
    return "\n".join(lines) + "\n"


def write(content: dict[str, Any]) -> None:
    """The JSON file, whole or not at all: the next run resumes from it."""
    partial = OUTPUT.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, OUTPUT.with_suffix(".json"))


def main() -> None:
    """Run what is missing; the JSON file is written after every training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two blocks of one shape, one seed, nothing written")
    quick = parser.parse_args().quick
    stored = json.loads(OUTPUT.with_suffix(".json").read_text()) if OUTPUT.with_suffix(".json").exists() else {}
    version = {"training": training.VERSION, "recipe": RECIPE.model_dump()}
    runs = stored.get("runs", []) if stored.get("version") == version and not quick else []
    todo = [(*shape, block, seed) for seed, shape, block in product(SEEDS, SHAPES, BLOCKS)]
    if quick:
        todo = [("gru", 64, "mini", block, 0) for block in (1, 8)]
    done = {(r["cell"], r["hidden"], r["subset"], r["block_size"], r["seed"]) for r in runs}
    for job in track([job for job in todo if job not in done], "trainings"):
        runs.append(measure(*job))
        if not quick:
            write({"version": version, "rows": summarise(runs), "runs": runs})
    rows = summarise(runs)
    if quick:
        print(markdown(rows))
    else:
        write({"version": version, "rows": rows, "runs": runs})
        OUTPUT.with_suffix(".md").write_text(markdown(rows))


if __name__ == "__main__":
    main()
