"""Is training as a search runs it fast, beside what one writes by hand in PyTorch, Brevitas and Flax?

    python -m benchmarks.training_speed [--quick] [--again]

Part A times one optimizer step, part B a study of 16 short trainings, compilation included, part C a search with
one worker and with two. In A and B all sides take turns in one process on one core; quantized sides mean the same:
8-bit words and states, the scale of a kernel a power of two. Writes results/reference/training_speed.md and .json;
a part that was measured with the same settings on this machine is not run again unless asked for. About 25 minutes
on two idle cores. PyTorch and Brevitas are needed for their sides only: `pip install torch brevitas`.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed_sides import SideFailed, codesign_search, sides
from benchmarks.speed_tables import markdown, spread
from benchmarks.speed_trial import BREVITAS, FEW_TRIALS, FLAX, FLOAT, JIT, LOOP, OURS, SETTLING, Shape, Steps, Trial
from codesign.search.space import load_search_space
from codesign.search.study import Progress, Study

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "training_speed"


@dataclass(frozen=True)
class Counts:
    """How much is measured.

    Attributes:
        shapes: of part A; the first is part B's.
        rounds: of part A.
        epoch: steps of codesign's compiled epoch.
        trials: of a study in part B.
        lengths: steps of a trial, one study for each.
        jit_limit_s: for which a step of Brevitas' JIT mode is waited.
        hidden, epochs, networks: of the searches in part C.
        repeats: of part C.
    """

    shapes: tuple[Shape, ...] = (Shape(64, 64, 64, 128), Shape(100, 32, 48, 128), Shape(64, 64, 128, 256))
    rounds: int = 7
    epoch: int = 25
    trials: int = 16
    lengths: tuple[int, ...] = (300, 50)
    jit_limit_s: float = 120.0
    hidden: int = 128
    epochs: int = 10
    networks: int = 16
    repeats: int = 2


QUICK = Counts((Shape(10, 4, 8, 16),), 2, 2, 2, (10,), 3.0, 16, 1, 2, 1)
BLOCKS = {OURS: 0, LOOP: 6, BREVITAS: 2, JIT: 2, FLAX: 25, FLOAT: 12}
"""Steps of a turn in part A; codesign's is an epoch."""


def timed(run: Callable[[], Any]) -> float:
    """Wall seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def gemm_peak() -> Callable[[], float]:
    """FLOP/s of the best of several large products in float32."""
    n = 1024
    a, product = jnp.ones((n, n)), jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    return lambda: 2 * n**3 / min(timed(lambda: product(a, a).block_until_ready()) for _ in range(5))


def step_times(shape: Shape, counts: Counts, skip: dict[str, str]) -> dict[str, Any]:
    """Part A at a shape: each side's time of a step, round by round.

    Args:
        skip: sides that failed at an earlier shape, and why.
    """
    blocks = BLOCKS | {OURS: counts.epoch}
    trial = Trial(shape, 8, 0, counts.epoch * (counts.rounds + 2), counts.epoch)
    peak, running, failed = gemm_peak(), {}, dict(skip)
    for name, begin in sides(counts.jit_limit_s).items():
        if name in failed:
            continue
        try:
            running[name] = begin(trial)
            if name in (BREVITAS, JIT):
                for _ in range(SETTLING):
                    running[name](1)
            for _ in range(2):  # which compile, perhaps once for a fresh state and once for one that was trained
                running[name](blocks[name])
        except SideFailed as why:
            failed[name] = str(why)
            del running[name]
    seconds: dict[str, list[float]] = {name: [] for name in running}
    peaks = []
    for turn in range(counts.rounds):
        names = list(running)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(timed(partial(running[name], blocks[name])) / blocks[name])
        peaks.append(peak())
    return {
        "shape": shape._asdict(),
        "gemm_flops_per_s": spread(peaks),
        "floor_s": shape.flops / median(peaks),
        "step_s": seconds,
        "ratio": {
            name: spread([side / ours for side, ours in zip(times, seconds[OURS], strict=True)])
            for name, times in seconds.items()
        },
        "share_of_peak": {
            name: median(shape.flops / each / best for each, best in zip(times, peaks, strict=True))
            for name, times in seconds.items()
        },
        "failed": failed,
    }


def study_times(length: int, counts: Counts) -> dict[str, Any]:
    """Part B: seconds of a study's trials of so many steps, all sides taking turns trial by trial."""
    jax.clear_caches()  # type: ignore[no-untyped-call]  # every study compiles what it needs
    begin = sides(counts.jit_limit_s) | {OURS: codesign_search}
    begin.pop(JIT, None)
    names = list(begin)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(counts.trials):
        trial = Trial(counts.shapes[0], (8, 6, 4)[number % 3], number, length, counts.epoch)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if name != BREVITAS:
                seconds[name].append(timed(partial(_train, begin[name], trial)))
            elif number % FEW_TRIALS == 0:
                seconds[name].append(_extrapolated(begin[name], trial))
    totals = {name: sum(each) * counts.trials / len(each) for name, each in seconds.items()}
    return {
        "shape": counts.shapes[0]._asdict(),
        "trials": counts.trials,
        "steps": length,
        "trial_s": seconds,
        "total_s": totals,
        "ratio": {name: total / totals[OURS] for name, total in totals.items()},
        "extrapolated": [name for name in names if name == BREVITAS],
    }


def _train(begin: Callable[[Trial], Steps], trial: Trial) -> None:
    begin(trial)(trial.n_steps)


def _extrapolated(begin: Callable[[Trial], Steps], trial: Trial) -> float:
    """Seconds of a trial, from its first steps and two more."""
    steps = begin(trial)
    first, later = timed(partial(steps, SETTLING)), timed(partial(steps, 2)) / 2
    return first + (trial.n_steps - SETTLING) * later


SPACE = """
task = {{ name = "ru_phones", subset = "mini" }}
[network]
cell = "lstm"
hidden = {hidden}
activation_function = "piecewise_linear"
state_threshold = {{ low = 0.0, high = 0.1 }}
input_kernel.weights = {{ kind = "fixed", bits = [4, 6, 8] }}
recurrent_kernel.weights = {{ kind = "fixed", bits = [4, 6, 8] }}
recurrent_kernel.structure = ["dense", {{ kind = "block_circulant", block_size = [2, 4, 8] }}]
[recipe]
epochs = {epochs}
[accelerator]
n_pe = 16
[search]
objectives = ["error", "latency_s"]
sampler = "random"
trials = {networks}
rungs = 0
confirm_seeds = 1
"""


def search_times(counts: Counts) -> dict[str, Any]:
    """Part C: the same search with one worker and with two, in alternation."""
    found: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
    for _ in range(counts.repeats):
        for workers, runs in found.items():
            with tempfile.TemporaryDirectory() as folder:
                runs.append(_search_alone(int(workers), Path(folder), counts))
    pairs = list(zip(found["1"], found["2"], strict=True))
    ratios = {name: [one[name] / two[name] for one, two in pairs] for name in ("search_s", "network_s")}
    return {"runs": found, "ratio": ratios}


def _search_alone(workers: int, folder: Path, counts: Counts) -> dict[str, float]:
    """In a process of its own, which has all cores and has compiled nothing yet."""
    space = folder / "training_speed.toml"
    space.write_text(SPACE.format(**asdict(counts)))
    surroundings = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    os.environ.update(surroundings)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_search, args=(workers, space, there))
    process.start()
    there.close()
    for name in surroundings:
        del os.environ[name]
    try:
        found: dict[str, float] = here.recv()
    finally:
        process.join()
    assert found["trainings"] == counts.networks, f"{found['trainings']} networks were trained, not {counts.networks}"
    return found


def _search(workers: int, space: Path, pipe: Any) -> None:
    study = Study(load_search_space(space), space.parent / "study")
    seen: list[tuple[float, int]] = []

    def watch(now: Progress) -> None:
        done = now.done if now.phase == "search" else study.space.settings.trials
        if done != (seen[-1][1] if seen else 0):
            seen.append((time.perf_counter(), done))

    elapsed = timed(lambda: study.run(watch, workers=workers))
    (first, done), (last, total) = seen[0], seen[-1]
    pace = (last - first) / (total - done) if total > done else elapsed / total  # two may end at one poll
    pipe.send({"search_s": elapsed, "network_s": pace, "trainings": len(study.records.trainings())})


def machine_facts() -> dict[str, Any]:
    """Processor and versions; a figure of another machine is not this one's."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("jax", "flax", "torch", "brevitas"):
        versions[name] = metadata.version(name) if find_spec(name) else None
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "versions": versions}


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, where the system can; XLA counts the cores when it is first used."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def write(content: dict[str, Any]) -> None:
    """The JSON file, whole or not at all: the next run resumes from it."""
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, OUTPUT.with_suffix(".json"))


def main() -> None:
    """Measure what is missing; the JSON file is written after every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, nothing written")
    parser.add_argument("--again", action="store_true", help="measure all parts, those measured before too")
    options = parser.parse_args()
    counts = QUICK if options.quick else Counts()
    if not (find_spec("torch") and find_spec("brevitas")):
        print("some sides are left out; for all of them: pip install torch brevitas", file=sys.stderr)
    jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
    jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
    machine = machine_facts()
    known: dict[str, Any] = {}
    if not options.quick and OUTPUT.with_suffix(".json").exists():
        known = json.loads(OUTPUT.with_suffix(".json").read_text())["parts"]
    parts: dict[str, Any] = {}
    failed: dict[str, str] = {}

    def part(name: str, settings: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measured now, or known from before."""
        asked = json.loads(json.dumps({"machine": machine, "counts": settings}))
        parts[name] = known.get(name, {})
        if options.again or parts[name].get("settings") != asked:
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr)
            parts[name] = {"settings": asked, "load_before": os.getloadavg()[0], "result": measure()}
            if not options.quick:
                write({"machine": machine, "parts": known | parts})
        return dict(parts[name]["result"])

    with one_core():
        for shape in counts.shapes:
            settings: Any = shape, counts.rounds, counts.epoch, BLOCKS, counts.jit_limit_s
            found = part(f"step, {shape}", settings, partial(step_times, shape, counts, failed))
            failed.update({name: f"not run here: {why} at the first shape" for name, why in found["failed"].items()})
        for length in counts.lengths:
            settings = counts.shapes[0], counts.trials, counts.epoch, length
            part(f"study, {length} steps", settings, partial(study_times, length, counts))
    part("workers", [counts.hidden, counts.epochs, counts.networks, counts.repeats], partial(search_times, counts))
    table = markdown(parts, machine)
    print(table)
    if not options.quick:
        write({"machine": machine, "parts": parts})
        OUTPUT.with_suffix(".md").write_text(table)


if __name__ == "__main__":
    main()
