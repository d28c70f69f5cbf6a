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
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from codesign import training
from codesign.design import Fixed, Kernel, Network, Recipe, TaskShape
from codesign.search.space import load_search_space
from codesign.search.study import Progress, Study
from codesign.tasks import Sequences, Splits
from codesign.tasks.framewise import PhoneTask
from codesign.training.step import split, train_epoch
from codesign.training.trainer import first_state, phases

OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "training_speed"
CLASSES = 40
SCALES = 3  # powers of two tried for a kernel, as codesign does
SETTLING = 6
"""First steps of Brevitas, in which its activation scales are still statistics, and slower."""

Steps = Callable[[int], None]
"""Takes a training on by so many steps."""

OURS, LOOP, BREVITAS, JIT = "codesign", "PyTorch loop", "Brevitas", "Brevitas, JIT"
FLAX, FLOAT = "Flax, compiled per trial", "torch.nn.LSTM, float"


class Shape(NamedTuple):
    """Of a batch and a layer."""

    time: int
    batch: int
    inputs: int
    hidden: int

    @property
    def flops(self) -> int:
        """In the products of one step: forward, gradient of the weights, gradient of the states (not of the input)."""
        into_gates, head = 4 * self.hidden, CLASSES * self.hidden
        both = (self.inputs + self.hidden) * into_gates
        return 2 * self.time * self.batch * (2 * both + self.hidden * into_gates + 3 * head)

    def __str__(self) -> str:
        return f"T {self.time}, B {self.batch}, I {self.inputs}, H {self.hidden}"


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
FEW_TRIALS = 4
"""Of so many trials of a study Brevitas does one, and of it the first steps; the rest is extrapolated."""


class RandomFrames(PhoneTask):
    """Noise with a random class for every frame, in pieces of one length."""

    n_pieces: int
    time: int
    inputs: int

    @property
    def shape(self) -> TaskShape:
        """Features and classes."""
        return TaskShape(self.inputs, CLASSES)

    @property
    def pause(self) -> int:
        """The first class."""
        return 0

    def splits(self) -> Splits:
        """All alike."""
        rng = np.random.default_rng(0)
        x = rng.uniform(-1.0, 1.0, (self.n_pieces, self.time, self.inputs)).astype(np.float32)
        y = rng.integers(CLASSES, size=x.shape[:2]).astype(np.int32)
        made = Sequences(x, y, np.ones(y.shape, np.float32))
        return Splits(made, made, made)

    def checksum(self) -> str:
        """Of the generator."""
        return "noise 0"


@dataclass(frozen=True)
class Trial:
    """A training that every side can do: one LSTM layer and a linear head."""

    shape: Shape
    bits: int
    seed: int
    n_steps: int
    epoch: int

    @property
    def network(self) -> Network:
        """Dense kernels of `bits`, states and head of 8 bits."""
        kernel = Kernel(weights=Fixed(bits=self.bits))
        return Network(cell="lstm", hidden=self.shape.hidden, input_kernel=kernel, recurrent_kernel=kernel)

    @property
    def recipe(self) -> Recipe:
        """Whole epochs."""
        return Recipe(epochs=self.n_steps // self.epoch, batch_size=self.shape.batch, sequence_length=self.shape.time)

    @property
    def task(self) -> RandomFrames:
        """An epoch's pieces."""
        return RandomFrames(n_pieces=self.epoch * self.shape.batch, time=self.shape.time, inputs=self.shape.inputs)


def codesign_search(trial: Trial) -> Steps:
    """A training as a search has it done, the building of the model included."""
    state = [training.begin(trial.network, trial.recipe, trial.seed)]

    def steps(n: int) -> None:
        state[:] = training.advance(state, trial.task, state[0].epochs + n // trial.epoch)

    return steps


def codesign_epochs(trial: Trial) -> Steps:
    """The compiled epochs of such a training alone."""
    recipe, task = trial.recipe, trial.task
    start = training.begin(trial.network, recipe, trial.seed)
    graph = split(training.build(trial.network, task, trial.seed))[0]
    population = jax.tree.map(lambda leaf: leaf[None], first_state(start, task, phases(recipe)[0]))
    data = training.training_chunks(task, recipe.sequence_length, recipe.batch_size)

    def steps(n: int) -> None:
        nonlocal population
        for _ in range(n // trial.epoch):
            population, loss = train_epoch(graph, recipe.batch_size, False, population, data)
            np.asarray(loss)

    return steps


def torch_steps(trial: Trial, model_of: str) -> Steps:
    """An eager loop on one thread around a model of `plain_pytorch`."""
    plain: Any = import_module("benchmarks.plain_pytorch")
    torch = plain.torch
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    model = getattr(plain, model_of)(trial.network, trial.task.shape)
    rate = trial.recipe.peak_learning_rate(trial.shape.hidden)
    run = plain.Training(model, trial.recipe, rate, trial.n_steps)
    data = training.splits(trial.task).train
    x, y, mask = (torch.from_numpy(array) for array in (data.x, data.y.astype(np.int64), data.mask))
    batches = plain.orders(len(x), trial.shape.batch, trial.seed)

    def steps(n: int) -> None:
        for _ in range(n):
            rows = next(batches)
            run.step(x[rows], y[rows], mask[rows])

    return steps


pytorch_loop = partial(torch_steps, model_of="model_of")
brevitas_loop = partial(torch_steps, model_of="brevitas_model")
torch_float = partial(torch_steps, model_of="float_model")


def fake_quantized(x: jax.Array, bits: int, unit: jax.Array | float) -> jax.Array:
    """Rounded forward, straight through backward."""
    half = 2.0 ** (bits - 1)
    rounded = jnp.clip(jnp.floor(x / unit + 0.5), -half, half - 1.0) * unit
    return x + jax.lax.stop_gradient(rounded - x)


def fake_quantized_kernel(kernel: jax.Array, bits: int) -> jax.Array:
    """With the power-of-two unit, out of three, that leaves the least squared error."""
    words = jax.lax.stop_gradient(kernel)
    top = jnp.ceil(jnp.log2(jnp.maximum(jnp.max(jnp.abs(words)), 2.0**-90)))  # a bias begins as zero
    units = jnp.exp2(top - (bits - 1) - jnp.arange(SCALES))
    errors = jnp.stack([jnp.sum((words - fake_quantized(words, bits, unit)) ** 2) for unit in units])
    return fake_quantized(kernel, bits, units[jnp.argmin(errors)])


class FlaxLSTM(nnx.Module):
    """A quantized LSTM and its head in plain Flax."""

    def __init__(self, trial: Trial, rngs: nnx.Rngs) -> None:
        shape, draw = trial.shape, nnx.initializers.glorot_uniform()
        self.bits: int = trial.bits
        self.input_kernel = nnx.Param(draw(rngs.params(), (shape.inputs, 4 * shape.hidden)))
        self.recurrent_kernel = nnx.Param(draw(rngs.params(), (shape.hidden, 4 * shape.hidden)))
        self.bias = nnx.Param(jnp.zeros((4 * shape.hidden,)))
        self.head = nnx.Param(draw(rngs.params(), (shape.hidden, CLASSES)))
        self.head_bias = nnx.Param(jnp.zeros((CLASSES,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scores (time, batch, classes)."""
        input_kernel = fake_quantized_kernel(self.input_kernel[...], self.bits)
        recurrent_kernel = fake_quantized_kernel(self.recurrent_kernel[...], self.bits)
        bias = fake_quantized_kernel(self.bias[...], 16)
        word = partial(fake_quantized, bits=8, unit=2.0**-7)

        def step(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            c, h = carry
            z = x @ input_kernel + h @ recurrent_kernel + bias
            i, f, g, o = jnp.split(z, 4, axis=-1)
            c = word(nnx.sigmoid(f)) * c + word(nnx.sigmoid(i)) * word(jnp.tanh(g))
            h = word(word(nnx.sigmoid(o)) * word(jnp.tanh(c)))
            return (c, h), h

        start = jnp.zeros((x.shape[1], recurrent_kernel.shape[0]))
        _, states = jax.lax.scan(step, (start, start), word(x))
        return states @ fake_quantized_kernel(self.head[...], 8) + fake_quantized_kernel(self.head_bias[...], 16)


def flax_closure(trial: Trial) -> Steps:
    """A model, an optimizer and a compiled step for this trial alone."""
    recipe = trial.recipe
    model = FlaxLSTM(trial, nnx.Rngs(trial.seed))
    rate = recipe.peak_learning_rate(trial.shape.hidden)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, int(recipe.warmup * trial.n_steps), trial.n_steps)
    adam = optax.chain(optax.clip_by_global_norm(recipe.max_gradient_norm), optax.adam(schedule))
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)
    data = training.training_chunks(trial.task, recipe.sequence_length, recipe.batch_size)
    rng = np.random.default_rng(trial.seed)

    @nnx.jit
    def update(model: FlaxLSTM, optimizer: Any, data: Any, rows: jax.Array) -> jax.Array:
        x, y, mask = data.x[rows].swapaxes(0, 1), data.y[rows].T, data.mask[rows].T

        def loss(model: FlaxLSTM) -> jax.Array:
            losses = optax.softmax_cross_entropy_with_integer_labels(model(x), y)
            return jnp.asarray((losses * mask).sum() / mask.sum())

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return jnp.asarray(value)

    def batches() -> Iterator[jax.Array]:
        while True:
            yield from jnp.asarray(rng.permutation(len(data.mask)).reshape(-1, recipe.batch_size))

    source = batches()

    def steps(n: int) -> None:
        for _ in range(n):
            value = update(model, optimizer, data, next(source))
        value.block_until_ready()

    return steps


class SideFailed(Exception):
    """A side that gives no figure; the message says why."""


def brevitas_jit(trial: Trial, limit_s: float) -> Steps:
    """Brevitas with BREVITAS_JIT=1, which it reads when it is imported: in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    os.environ["BREVITAS_JIT"] = "1"
    process = context.Process(target=_serve_brevitas, args=(trial, there), daemon=True)
    process.start()
    del os.environ["BREVITAS_JIT"]
    there.close()

    def steps(n: int) -> None:
        here.send(n)
        try:
            answer = here.recv() if here.poll(limit_s) else f"no step within {limit_s:.0f} s"
        except EOFError:
            answer = "its process died"
        if answer:
            process.kill()
            process.join()
            raise SideFailed(answer)

    return steps


def _serve_brevitas(trial: Trial, pipe: Any) -> None:
    try:
        steps = brevitas_loop(trial)
        while True:
            steps(pipe.recv())
            pipe.send(None)
    except EOFError:  # no longer needed
        pass
    except Exception as error:  # whatever a compiler may raise is the result
        pipe.send(f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}")


def sides(counts: Counts) -> dict[str, Callable[[Trial], Steps]]:
    """Those of part A whose packages are here."""
    found: dict[str, Callable[[Trial], Steps]] = {OURS: codesign_epochs, FLAX: flax_closure}
    if find_spec("torch"):
        found |= {LOOP: pytorch_loop, FLOAT: torch_float}
        if find_spec("brevitas"):
            found |= {BREVITAS: brevitas_loop, JIT: partial(brevitas_jit, limit_s=counts.jit_limit_s)}
    return {name: found[name] for name in (OURS, LOOP, BREVITAS, JIT, FLAX, FLOAT) if name in found}


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


def spread(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(value) for value in quantiles(values, n=4, method="inclusive")]


def step_times(shape: Shape, counts: Counts, skip: dict[str, str]) -> dict[str, Any]:
    """Part A at a shape: each side's time of a step, round by round.

    Args:
        skip: sides that failed at an earlier shape, and why.
    """
    blocks = BLOCKS | {OURS: counts.epoch}
    trial = Trial(shape, 8, 0, counts.epoch * (counts.rounds + 2), counts.epoch)
    peak, running, failed = gemm_peak(), {}, dict(skip)
    for name, begin in sides(counts).items():
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
    begin = sides(counts) | {OURS: codesign_search}
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


class Aim(NamedTuple):
    """That a ratio, the side's time over ours, should exceed; `required` where it must."""

    side: str
    least: float
    required: bool = False


REQUIRED = (Aim(LOOP, 1.0, True), Aim(BREVITAS, 1.0, True), Aim(JIT, 1.0, True), Aim(FLAX, 1.0, True))
STEP_AIMS = (*REQUIRED, Aim(LOOP, 2.0), Aim(BREVITAS, 10.0), Aim(JIT, 10.0), Aim(FLOAT, 1.0))
STUDY_AIMS = {300: (*STEP_AIMS, Aim(FLAX, 1.2)), 50: (*STEP_AIMS, Aim(FLAX, 2.0))}
WORKERS_AIM = 1.6


def verdict(where: str, aim: Aim, ratio: float, ours_ms: float, floor_ms: float) -> str:
    """A row of the table of aims."""
    met, missed = "yes", "-"
    if ratio < aim.least:
        met, theirs = "**no**", ours_ms * ratio
        missed = (
            f"short by {1 - ratio / aim.least:.0%}: ours {ours_ms:.1f} ms a step, {theirs / aim.least:.1f} wanted; "
            f"{floor_ms:.1f} for the products alone would be {theirs / floor_ms:.1f}x"
        )
    kind = "required" if aim.required else "aim"
    return f"| {where} | {aim.side} | {kind} | {aim.least:g}x | {ratio:.2f}x | {met} | {missed} |"


def markdown(parts: dict[str, Any], machine: dict[str, Any]) -> str:
    """The tables for people."""
    steps = [part["result"] for name, part in parts.items() if name.startswith("step")]
    studies = [part["result"] for name, part in parts.items() if name.startswith("study")]
    loads = [part["load_before"] for part in parts.values()]
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in machine["versions"].items())
    lines = [
        "# Training speed",
        "",
        "`python -m benchmarks.training_speed`: one LSTM layer and a linear head of 40 classes, cross-entropy at",
        "every frame, Adam, clipped gradient. codesign, the PyTorch loop and Flax train the same 8-bit network;",
        "Brevitas has its own 8-bit quantizers, torch.nn.LSTM none. All sides are interleaved: in A and B they take",
        "turns in one process on one core (Brevitas' JIT mode in a process beside it).",
        "",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, no accelerator used; {versions}.",
        f"Load average before a part, this benchmark's own included: {min(loads):.1f} to {max(loads):.1f}.",
        "",
        *_step_lines(steps),
        *_study_lines(studies),
        *_worker_lines(parts["workers"]["result"]),
        *_aim_lines(steps, studies, parts["workers"]["result"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _step_lines(steps: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## A. One optimizer step",
        "",
        "Median and quartiles over rounds; the ratio is the median of the rounds' own. The last column is the share",
        "of what the largest float32 product of XLA reaches on this core in the same rounds.",
        "",
        "| shape | side | ms a step | its time / ours | share of the GEMM peak |",
        "|---|---|---|---|---|",
    ]
    for row in steps:
        shape = Shape(**row["shape"])
        for name, times in row["step_s"].items():
            low, middle, high = (1e3 * value for value in spread(times))
            below, ratio, above = row["ratio"][name]
            ratios = "1" if name == OURS else f"{ratio:.2f} ({below:.2f} to {above:.2f})"
            share = f"{100 * row['share_of_peak'][name]:.0f} %"
            lines.append(f"| {shape} | {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {ratios} | {share} |")
        floor, peak = 1e3 * row["floor_s"], row["gemm_flops_per_s"][1] / 1e9
        lines.append(f"| {shape} | products alone at the peak ({peak:.0f} GFLOP/s) | {floor:.1f} | | 100 % |")
        lines += [f"| {shape} | {name} | {why} | | |" for name, why in row["failed"].items()]
    return [*lines, ""]


def _study_lines(studies: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## B. A study, compilation included",
        "",
        "Trials of other seeds and word lengths (8, 6, 4 bits), dense kernels; no compiled program is kept from",
        "before, and none on disk.",
        "",
        "| study | side | seconds | its time / ours | first trial, s | later trials, median s |",
        "|---|---|---|---|---|---|",
    ]
    for row in studies:
        what = f"{row['trials']} x {row['steps']} steps, {Shape(**row['shape'])}"
        for name, total in row["total_s"].items():
            first, *later = row["trial_s"][name]
            mark = " (extrapolated)" if name in row["extrapolated"] else ""
            rest = f"{median(later):.1f}" if later else "-"
            lines.append(f"| {what} | {name} | {total:.0f}{mark} | {row['ratio'][name]:.2f} | {first:.1f} | {rest} |")
    if any(row["extrapolated"] for row in studies):
        lines += [
            "",
            f"Extrapolated: one trial in {FEW_TRIALS}, of each its first {SETTLING} steps, in which the scales settle,",
            "and the rest at the pace of the two that follow.",
        ]
    return [*lines, ""]


def _worker_lines(row: dict[str, Any]) -> list[str]:
    lines = [
        "## C. Two workers",
        "",
        "The same search with a random sampler, the compile cache cold; one worker may use all cores. The whole search",
        "includes the start of the workers, compilation and the test of the front; the pace does not: it is taken from",
        "the first network that was trained to the last.",
        "",
        "| what | one worker | two workers | one / two |",
        "|---|---|---|---|",
    ]
    for name, what in (("search_s", "whole search, s"), ("network_s", "pace, s a network")):
        one, two = (", ".join(f"{run[name]:.1f}" for run in row["runs"][workers]) for workers in ("1", "2"))
        lines.append(f"| {what} | {one} | {two} | {', '.join(f'{ratio:.2f}' for ratio in row['ratio'][name])} |")
    return [*lines, ""]


def _aim_lines(steps: list[dict[str, Any]], studies: list[dict[str, Any]], workers: dict[str, Any]) -> list[str]:
    lines = [
        "## Aims",
        "",
        "| where | against | kind | wanted | measured | met | if missed |",
        "|---|---|---|---|---|---|---|",
    ]
    floors = {Shape(**row["shape"]): 1e3 * row["floor_s"] for row in steps}
    for row in steps:
        shape, ours = Shape(**row["shape"]), 1e3 * median(row["step_s"][OURS])
        for aim in STEP_AIMS:
            if aim.side in row["ratio"]:
                lines.append(verdict(f"step, {shape}", aim, row["ratio"][aim.side][1], ours, floors[shape]))
    for row in studies:
        ours = 1e3 * row["total_s"][OURS] / (row["trials"] * row["steps"])
        for aim in STUDY_AIMS.get(row["steps"], STEP_AIMS):
            if aim.side in row["ratio"]:
                floor = floors[Shape(**row["shape"])]
                lines.append(verdict(f"study, {row['steps']} steps", aim, row["ratio"][aim.side], ours, floor))
    ratio = median(workers["ratio"]["search_s"])
    met, short = ("yes", "-") if ratio >= WORKERS_AIM else ("**no**", f"short by {1 - ratio / WORKERS_AIM:.0%}")
    return [*lines, f"| search | one worker | aim | {WORKERS_AIM}x | {ratio:.2f}x | {met} | {short} |"]


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
