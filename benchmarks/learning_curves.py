"""Learning curves of every network of a small search space, for replaying searches without training.

    python -m benchmarks.learning_curves [--workers N] [--limit N]

Trains the 360 networks of `search_efficiency.toml` with three seeds on the mini set of ru_phones and writes the
validation error after every epoch to results/reference/learning_curves.json. Resumable: every finished training is
kept. About an hour and a half on two cores.
"""

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.pool import answers, cores
from codesign import training
from codesign.design import Network, Recipe, digest
from codesign.knobs import Choice, Range, Scalar, resolve
from codesign.search.space import SearchSpace, load_search_space

SPACE = Path(__file__).parent / "search_efficiency.toml"
OUTPUT = Path(__file__).parent.parent / "results" / "reference" / "learning_curves.json"
SEEDS = (0, 1, 2)

Curve = dict[str, Any]


def key_of(network: Network) -> str:
    """Names a network in the table."""
    return digest(network)


def networks(space: SearchSpace) -> dict[str, Network]:
    """All networks of a space whose network table has choices only, by key."""
    names = {name: node for name, node in space.knobs.items() if name.startswith("network.")}
    options = [list(node.values) if isinstance(node, Choice) else list(node.members) for node in names.values()]
    found = {}
    for combination in product(*options):
        values = dict(zip(names, combination, strict=True))

        def pick(name: str, node: Choice | Range, values: dict[str, Scalar] = values) -> Scalar:
            return values.get(name, node.values[0] if isinstance(node, Choice) else node.low)

        network = Network.model_validate(resolve(space.tree, pick, "")["network"])
        found[key_of(network)] = network
    return found


def curve(network: Network, recipe: Recipe, seed: int, space: SearchSpace) -> Curve:
    """Validation error after every epoch of one training."""
    began = time.monotonic()
    errors: list[float] = []
    now = [training.begin(network, recipe, seed)]
    for epoch in range(1, recipe.total_epochs + 1):
        now = training.advance(now, space.task, epoch)
        weights = training.trained(now[0], space.task).weights
        model = training.restore(network, space.task, seed, weights)
        errors.append(training.evaluate(model, space.task, "validation").metrics["error"])
    return {
        "key": key_of(network),
        "seed": seed,
        "errors": [round(error, 6) for error in errors],
        "train_seconds": round(now[0].seconds, 2),
        "seconds": round(time.monotonic() - began, 2),
    }


def write(curves: list[Curve], space: SearchSpace) -> None:
    """The table, whole or not at all."""
    recipe = _recipe(space)
    content = {
        "space": space.text,
        "steps_per_epoch": training.steps_per_epoch(recipe, space.task),
        "training_version": training.VERSION,
        "curves": sorted(curves, key=lambda one: (one["key"], one["seed"])),
    }
    unfinished = OUTPUT.with_suffix(".partial")
    unfinished.write_text(json.dumps(content).replace('{"key"', '\n{"key"') + "\n")
    os.replace(unfinished, OUTPUT)


def _recipe(space: SearchSpace) -> Recipe:
    return Recipe.model_validate(space.tree["recipe"])


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=len(cores()), help="trainings side by side")
    parser.add_argument("--limit", type=int, help="trainings to add now")
    options = parser.parse_args()
    space = load_search_space(SPACE)
    known: list[Curve] = json.loads(OUTPUT.read_text())["curves"] if OUTPUT.exists() else []
    done = {(one["key"], one["seed"]) for one in known}
    jobs = [(net, seed) for seed in SEEDS for key, net in networks(space).items() if (key, seed) not in done]
    jobs = jobs[: options.limit]
    trainings = [(network, _recipe(space), seed, space) for network, seed in jobs]
    for count, found in enumerate(answers("trainings", options.workers, curve, trainings), 1):
        known.append(found)
        if count % 10 == 0:
            write(known, space)
    write(known, space)


if __name__ == "__main__":
    main()
