"""Search spaces: what may vary, what is wanted, and within which limits."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from codesign import hardware, tasks
from codesign.design import Accelerator, Activity, Design, Network, Recipe, Spec
from codesign.errors import InputError, unknown
from codesign.hardware import Cost, Infeasible
from codesign.knobs import Alternatives, Choice, Pick, Range, Reader, Scalar, Tree, free, options, read_toml, resolve
from codesign.tasks import Task

OBJECTIVES = ("error", *(name for name in hardware.COST_FIELDS if name != "throughput"))
"""What a search can minimise: the validation error, and the fields of a cost of which less is better."""

TABLES: dict[str, type[Spec]] = {"network": Network, "recipe": Recipe, "accelerator": Accelerator}
N_SAMPLES = 256  # random points that a space is tried on when it is read


class SearchSettings(Spec):
    """The [search] table.

    Attributes:
        sampler: Optuna's, by name; or "ernn", the two phases of E-RNN, which end by themselves.
        tolerance: of "ernn": largest rise of the error above that of the first network, in the task's unit.
        trials: designs to train, those stopped at a rung included; designs refused by their cost do not count.
        seed: of the sampler and of all trainings.
        confirm_seeds: trainings behind each row of the final front, the search's own included.
        hardware_first: refuse designs that cannot run or break a limit before they are trained. Assumes that limits
            are meant for the worst case; a design that keeps one on average only is refused too.
        train_once: share the training of designs that differ in the accelerator alone; a design proposed twice buys
            one more seed of its network, up to `confirm_seeds`. Assumes that nothing but network, recipe, data and
            seed changes the error.
        every_accelerator: take the front over all accelerators of the space for every trained network. Assumes that
            the cost model is right wherever it is asked, which is many more places than a sampler would look at.
            With hardware_first, a network whose accelerator does not fit moves to the nearest one that does.
        rungs: budgets before the full one at which bad networks are stopped; 0: every training runs to its end.
            Misleads where learning curves cross.
        reduction: between the epochs of neighbouring rungs; the share that goes on is about 1 / reduction.
        warm_start: train the dense phase of a recipe (`dense_epochs`) once for all networks of one shape. Changes
            no result, only what it costs.
        population: networks of one compile key that are trained side by side; pays on a GPU.
        stop_when_flat: end the search when the hypervolume no longer grows. Misleads where a sampler is about to
            find another region.
    """

    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random", "qmc", "ernn"] = "tpe"
    tolerance: float = Field(default=0.01, ge=0.0)
    trials: int = Field(default=40, ge=1)
    seed: int = Field(default=0, ge=0)
    confirm_seeds: int = Field(default=3, ge=1, le=20)
    hardware_first: bool = True
    train_once: bool = True
    every_accelerator: bool = True
    rungs: int = Field(default=2, ge=0, le=6)
    reduction: int = Field(default=3, ge=2, le=10)
    warm_start: bool = True
    population: int = Field(default=1, ge=1, le=1024)
    stop_when_flat: bool = False


GROWS = frozenset({"trials", "confirm_seeds", "stop_when_flat"})
"""Settings that may differ between two runs of one study."""


@dataclass(frozen=True)
class SearchSpace:
    """A checked search space.

    Attributes:
        name: of the study and its folder.
        task: what the networks learn.
        tree: the tables network, recipe and accelerator, with their free fields.
        objectives: names out of `OBJECTIVES`, error first.
        limits: largest admissible value by cost field; they hold in the worst case.
        settings: the rest of the [search] table.
        text: the file it came from.
        starts: values of the free fields of known designs, which are tried first.
    """

    name: str
    task: Task
    tree: Tree
    objectives: tuple[str, ...]
    limits: dict[str, float]
    settings: SearchSettings
    text: str
    starts: tuple[dict[str, Scalar], ...] = ()

    @property
    def knobs(self) -> dict[str, Any]:
        """Free fields by dotted name."""
        return dict(free(self.tree, ""))

    def design(self, pick: Pick) -> tuple[Design, Recipe]:
        """A point of the space: every free field is asked of `pick`."""
        values = resolve(self.tree, pick, "")
        recipe = Recipe.model_validate(values.pop("recipe"))
        return Design.model_validate(values), recipe

    def sample(self, rng: np.random.Generator) -> tuple[Design, Recipe]:
        """A random point, every choice and range uniform (log ranges in the logarithm)."""
        return self.design(lambda _, node: _draw(rng, node))

    def identity(self) -> dict[str, Any]:
        """What two runs must share to be one study; more trials or seeds may be asked for later."""
        return {
            "task": self.task.identity(),
            "space": dict(sorted(_leaves(self.tree, ""))),
            "objectives": list(self.objectives),
            "limits": self.limits,
            **{name: value for name, value in self.settings.model_dump().items() if name not in GROWS},
            "start": [dict(sorted(start.items())) for start in self.starts],
        }

    def changed(self, **settings: Any) -> "SearchSpace":
        """The same space with other values in its [search] table."""
        return replace(self, settings=self.settings.model_copy(update=settings))

    def cost(self, design: Design, activity: Activity | None = None) -> Cost:
        """Hardware cost of a design on this space's task; the worst case without activity."""
        return hardware.estimate(design.network, design.accelerator, self.task.shape, activity)


def load_search_space(path: str | Path) -> SearchSpace:
    """Read and check a TOML file.

    Raises:
        InputError: with one line for every fault of the file.
    """
    path = Path(path)
    tables = read_toml(path)
    space = parse(tables, str(path), path.stem, path.read_text(encoding="utf-8"), path.parent)
    try_points(space, str(path))
    return space


def parse(tables: dict[str, Any], source: str, name: str, text: str, folder: Path | None = None) -> SearchSpace:
    """Check the tables of a search space, value by value.

    Args:
        tables: content of the file.
        source: begins every fault.
        name: of the study, unless the tables have one.
        text: the file itself, kept with the results.
        folder: that the files of [[search.start]] are named from; None leaves all starts out.

    Raises:
        InputError: with one line for every fault.
    """
    reader = Reader(source)
    for key in sorted(tables.keys() - {"name", "task", "search", *TABLES}):
        reader.fault(key, unknown("key", key, ("name", "task", "search", *TABLES)))
    name = tables.get("name", name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        reader.fault("name", f"must be letters, digits, '_', '-' or '.', got {name!r}")
    task = reader.attempt(tasks.parse, tables.get("task"))
    tree: Tree = {table: reader.tree(model, tables.get(table, {}), table) for table, model in TABLES.items()}
    _registered(reader, tree)
    search = tables.get("search", {})
    if not isinstance(search, dict):
        reader.fault("search", f"must be a table, got {search!r}")
        search = {}
    objectives = _objectives(reader, search.get("objectives"))
    limits = _limits(reader, search.get("limits", {}))
    rest = {key: value for key, value in search.items() if key not in ("objectives", "limits", "start")}
    settings = reader.fixed(SearchSettings, rest, "search")
    starts = () if reader.faults else _starts(reader, tree, search.get("start", []), folder)
    reader.finish()
    assert task is not None  # its faults would have been raised
    return SearchSpace(str(name), task, tree, objectives, limits, settings, text, starts)


def _starts(reader: Reader, tree: Tree, tables: Any, folder: Path | None) -> tuple[dict[str, Scalar], ...]:
    """The [[search.start]] tables: designs of the space, by the values of its free fields."""
    path = "search.start"
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        reader.fault(path, f"must be tables [[search.start]] with network, recipe and accelerator, got {tables!r}")
        return ()
    if folder is None:
        return ()
    return tuple(_start(reader, tree, table, f"{path}[{i}]", folder) for i, table in enumerate(tables))


def _start(reader: Reader, tree: Tree, table: dict[str, Any], path: str, folder: Path) -> dict[str, Scalar]:
    """The free fields of one of them; what it leaves out takes the first value of the space.

    A table `{ file = "presets/hcgs.toml" }` stands for the network of that file, which may be a search space or an
    exported design.
    """
    if set(table) == {"file"}:
        named = reader.attempt(read_toml, folder / str(table["file"]))
        table = {"network": (named or {}).get("network", {})}
    for key in sorted(table.keys() - TABLES.keys()):
        reader.fault(f"{path}.{key}", unknown("key", key, ("file", *TABLES)))
    given: Tree = {key: reader.tree(TABLES[key], table[key], f"{path}.{key}") for key in TABLES if key in table}
    stated = {".".join(keys) for keys in _stated(table, ())}
    meant = {name: values for name, values in options(given, "") if name in stated}
    start: dict[str, Scalar] = {}

    def pick(name: str, node: Choice | Range) -> Scalar:
        wanted = meant.get(name, node.values if isinstance(node, Choice) else (node.low,))
        fitting = [value for value in wanted if node.holds(value)]
        if not fitting:
            reader.fault(f"{path}.{name}", f"must be one of {node}, got {_either(wanted)}; widen the space")
        start[name] = fitting[0] if fitting else node.values[0] if isinstance(node, Choice) else node.low
        return start[name]

    resolve(tree, pick, "")
    for name, values in options(tree, ""):
        if name not in start and name in meant and not set(values) & set(meant[name]):
            reader.fault(f"{path}.{name}", f"is {_either(values)} in this space, got {_either(meant[name])}")
    return start


def _either(values: tuple[Scalar, ...]) -> str:
    return " or ".join(map(repr, values))


def _stated(table: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every key of nested tables that a user wrote; below a kind stand that kind's fields."""
    for key, value in table.items():
        yield (*path, key)
        if isinstance(value, dict):
            kind = (value["kind"],) if isinstance(value.get("kind"), str) else ()
            yield from _stated(value, (*path, key, *kind))


def _registered(reader: Reader, tree: Tree) -> None:
    """Kinds and technologies must be known before a cost can be asked for."""
    accelerator = tree["accelerator"]
    assert isinstance(accelerator, dict)
    for field, find in (("kind", hardware.accelerator_kind), ("technology", hardware.technology)):
        node = accelerator.get(field)
        for value in node.values if isinstance(node, Choice) else (node,):
            if isinstance(value, str):
                try:
                    find(value)
                except InputError as error:
                    reader.fault(f"accelerator.{field}", str(error))


def _objectives(reader: Reader, names: Any) -> tuple[str, ...]:
    path = "search.objectives"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        reader.fault(path, f'must be a list such as ["error", "latency_s"], got {names!r}')
        return ()
    for name in names:
        if name not in OBJECTIVES:
            reader.fault(path, unknown("objective", name, OBJECTIVES))
    if "error" not in names or len(set(names)) != len(names) or len(names) < 2:
        reader.fault(path, f"must hold error and one or more different costs, got {names}")
    return ("error", *(name for name in names if name != "error"))  # wherever it stands in the file


def _limits(reader: Reader, table: Any) -> dict[str, float]:
    path = "search.limits"
    if not isinstance(table, dict):
        reader.fault(path, f"must be a table such as {{ latency_s = 1e-3 }}, got {table!r}")
        return {}
    known = OBJECTIVES[1:]
    for name, value in table.items():
        if name not in known:
            reader.fault(f"{path}.{name}", unknown("cost", name, known))
        elif isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            reader.fault(f"{path}.{name}", f"must be a number above zero, got {value!r}")
    return {name: float(value) for name, value in table.items() if isinstance(value, int | float)}


def try_points(space: SearchSpace, source: str) -> None:
    """Refuse what only shows in whole designs: missing costs, hopeless options, nothing that can run.

    Raises:
        InputError: with one line for every fault.
    """
    reader = Reader(source)
    rng = np.random.default_rng(0)
    masks: dict[tuple[str, Scalar], list[int]] = {}  # of infeasible bits, by option
    reasons: Counter[str] = Counter()
    n_feasible = 0
    for _ in range(N_SAMPLES):
        picked: dict[str, Scalar] = {}

        def pick(name: str, node: Choice | Range, into: dict[str, Scalar] = picked) -> Scalar:
            into[name] = _draw(rng, node)
            return into[name]

        design, _recipe = space.design(pick)
        cost = space.cost(design)
        _require_costs(space, cost, source)
        for option in picked.items():
            masks.setdefault(option, []).append(int(cost.infeasible[0]))
        reasons.update(cost.reasons()[:1])
        n_feasible += bool(cost.feasible[0])
    for (name, value), seen in masks.items():
        if all(mask & Infeasible.OVERSIZED_BLOCK for mask in seen):
            reader.fault(name, f"{value} is larger than every layer of this space; leave it out")
    if not n_feasible and not reader.faults:
        reader.fault("", f"none of {N_SAMPLES} random designs can run; mostly because {reasons.most_common(1)[0][0]}")
    reader.finish()


def _require_costs(space: SearchSpace, cost: Cost, source: str) -> None:
    row = cost.row()
    for name in (*space.objectives[1:], *space.limits):
        if row[name] is None:
            there = ", ".join(key for key in OBJECTIVES[1:] if row[key] is not None)
            raise InputError(f"{source}: search: {cost.facts['technology']} has no {name}; it has {there}")


def _draw(rng: np.random.Generator, node: Choice | Range) -> Scalar:
    if isinstance(node, Choice):
        return node.values[int(rng.integers(len(node.values)))]
    if node.log:
        value = math.exp(rng.uniform(math.log(node.low), math.log(node.high)))
        return min(int(node.high), max(int(node.low), round(value))) if node.whole else value
    step = node.step or (1 if node.whole else 0)
    if step:
        return node.low + step * int(rng.integers(int((node.high - node.low) / step + 1e-9) + 1))
    return float(rng.uniform(node.low, node.high))


def _leaves(tree: Tree, path: str) -> Iterator[tuple[str, str]]:
    """Every field of a tree in words, by dotted name; what was left out stands there with its default."""
    for name, node in tree.items():
        here = f"{path}.{name}" if path else name
        if isinstance(node, Alternatives):
            yield here, ", ".join(node.members)
            for kind, member in node.members.items():
                yield from _leaves(member, f"{here}.{kind}")
        elif isinstance(node, dict):
            yield from _leaves(node, here)
        else:
            yield here, str(node)
