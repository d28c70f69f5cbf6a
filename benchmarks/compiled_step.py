"""What does it cost that one compiled step serves every structure and word length?

    python -m benchmarks.compiled_step

Times one epoch of ru_phones mini with the universal kernel, mask * quantize(words)[ids], against the same
epoch with a kernel that can only be dense (quantize(words) reshaped, nothing gathered or masked), both at
8 bits, interleaved in one process; and what the second trial of a study pays when it shares the program with
the first, against compiling anew. Writes results/reference/compiled_step.md and .json. A few minutes.
"""

import json
import time
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import jax
import jax.numpy as jnp

from codesign import tasks
from codesign.design import Fixed, Kernel, Network, Recipe
from codesign.models import CompressedKernel
from codesign.training import build, training_chunks
from codesign.training.step import ADAM, Chunks, Member, Settings, _epoch, split

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "compiled_step"
TASK = tasks.find("ru_phones", subset="mini")
SHAPES = [("gru", 64), ("gru", 128), ("lstm", 64), ("lstm", 128)]
ROUNDS = 15
AIM = 1.05


def dense_matrix(kernel: CompressedKernel, key: jax.Array | None = None) -> jax.Array:
    """The kernel when it can only be dense: no indices, no mask."""
    words = kernel.written(key)
    cols, rows = kernel.ids.shape
    return words.reshape(rows, cols).T


def member(network: Network, seed: int) -> tuple[Any, Member]:
    """Static graph and a fresh member."""
    graph, params, traced = split(build(network, TASK, seed))
    settings = Settings(*(jnp.float32(value) for value in (0.01, 1000.0, 0.1, 1.0, 0.0)))
    return graph, Member(
        params, traced, ADAM.init(params), jax.random.key(seed), jnp.int32(0), settings, jnp.zeros(network.layers)
    )


def seconds(program: Any, state: Member, data: Chunks) -> tuple[float, Member]:
    """Wall time of one epoch."""
    began = time.perf_counter()
    state, loss = program(state, data)
    loss.block_until_ready()
    return time.perf_counter() - began, state


def measure(cell: str, hidden: int, data: Chunks) -> dict[str, Any]:
    """Medians over interleaved rounds."""
    kernel = Kernel(weights=Fixed(bits=8))
    network = Network.model_validate(
        {"cell": cell, "hidden": hidden, "input_kernel": kernel, "recurrent_kernel": kernel}
    )
    graph, _ = member(network, 0)
    universal_matrix = CompressedKernel.matrix
    programs, states, first = {}, {}, {}
    for name, matrix in (("universal", universal_matrix), ("dense", dense_matrix)):
        CompressedKernel.matrix = matrix  # type: ignore[method-assign, assignment]
        try:
            programs[name] = jax.jit(partial(_epoch, graph, Recipe().batch_size, False))
            first[name], states[name] = seconds(programs[name], member(network, 0)[1], data)
        finally:
            CompressedKernel.matrix = universal_matrix  # type: ignore[method-assign]
    times: dict[str, list[float]] = {"universal": [], "dense": []}
    for _ in range(ROUNDS):
        for name in times:
            elapsed, states[name] = seconds(programs[name], states[name], data)
            times[name].append(elapsed)
    ratios = [a / b for a, b in zip(times["universal"], times["dense"], strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return {
        "cell": cell,
        "hidden": hidden,
        "universal_s": median(times["universal"]),
        "dense_s": median(times["dense"]),
        "ratio_median": middle,
        "ratio_quartiles": [low, high],
        "first_epoch_s": first["universal"],
    }


def main() -> None:
    """Measure and write."""
    jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
    data = training_chunks(TASK, Recipe().sequence_length, Recipe().batch_size)
    rows = [measure(cell, hidden, data) for cell, hidden in SHAPES]
    OUTPUT.with_suffix(".json").write_text(json.dumps({"rounds": ROUNDS, "aim": AIM, "rows": rows}, indent=1) + "\n")
    lines = [
        "# One compiled step for every structure and word length",
        "",
        f"`python -m benchmarks.compiled_step`: an epoch of ru_phones mini, 8 bits, {ROUNDS} interleaved rounds.",
        "Universal: mask * quantize(words)[ids], everything traced. Dense: quantize(words) only. First: the universal",
        "program's first epoch, compilation included, which later trials of the same shape do not pay.",
        "",
        f"| cell | hidden | universal, s | dense, s | ratio, median (quartiles) | within {AIM} | first, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["ratio_quartiles"]
        lines.append(
            f"| {row['cell']} | {row['hidden']} | {row['universal_s']:.3f} | {row['dense_s']:.3f} "
            f"| {row['ratio_median']:.3f} ({low:.3f} to {high:.3f}) | {'yes' if row['ratio_median'] <= AIM else 'no'} "
            f"| {row['first_epoch_s']:.1f} |"
        )
    OUTPUT.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
