"""Who takes part in `benchmarks.training_speed`: codesign, and the loops that one writes by hand."""

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from benchmarks.plain_flax import flax_closure
from benchmarks.speed_trial import BREVITAS, FLAX, FLOAT, JIT, LOOP, OURS, Steps, Trial
from codesign import training
from codesign.training.step import split, train_epoch
from codesign.training.trainer import first_state, phases


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


def sides(jit_limit_s: float) -> dict[str, Callable[[Trial], Steps]]:
    """Those whose packages are here, ours by its compiled epochs alone.

    Args:
        jit_limit_s: for which a step of Brevitas' JIT mode is waited.
    """
    found: dict[str, Callable[[Trial], Steps]] = {OURS: codesign_epochs, FLAX: flax_closure}
    if find_spec("torch"):
        found |= {LOOP: pytorch_loop, FLOAT: torch_float}
        if find_spec("brevitas"):
            found |= {BREVITAS: brevitas_loop, JIT: partial(brevitas_jit, limit_s=jit_limit_s)}
    return {name: found[name] for name in (OURS, LOOP, BREVITAS, JIT, FLAX, FLOAT) if name in found}
