"""Reading TOML in which every field of a record may be a value, a list of choices or a range.

A plain value fixes a field, `[4, 6, 8]` offers choices, `{ low = 1e-3, high = 1e-2, log = true }` a
range. A field with several kinds takes a name, a table, or a list of these, and each kind brings
its own parameters. Faults are collected, one line each, so that a user sees all of them at once.
"""

import math
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from codesign.design import Family
from codesign.errors import InputError, unknown

Scalar = bool | int | float | str
Parsed = TypeVar("Parsed")
MAX_GRID = 10_000  # values of a range that are tried one by one


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Scalar, ...]

    def holds(self, value: Scalar) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def __str__(self) -> str:
        return str(list(self.values))


@dataclass(frozen=True)
class Range:
    """A number from low to high; whole numbers where both ends are whole and not `step` says else."""

    low: float
    high: float
    step: float | None
    log: bool

    @property
    def whole(self) -> bool:
        """Whether only integers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Scalar) -> bool:
        """Whether a sampler could draw it."""
        if not _is_number(value) or not self.low <= cast(float, value) <= self.high:
            return False
        step = self.step or (1 if self.whole else 0)
        return not step or math.isclose((cast(float, value) - self.low) / step % 1.0, 0.0, abs_tol=1e-9)

    def __str__(self) -> str:
        step = f" by {self.step}" if self.step else ""
        return f"{self.low} to {self.high}{step}{' in the logarithm' if self.log else ''}"


@dataclass(frozen=True)
class Alternatives:
    """One of some kinds, each with a tree of its own."""

    members: dict[str, "Tree"]


Node = Scalar | Choice | Range | Alternatives | dict[str, Any]
Tree = dict[str, Node]
Pick = Callable[[str, Choice | Range], Scalar]


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; every way this can fail is one line."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text; a TOML file in UTF-8 is expected") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None


class Reader:
    """Checks tables against record classes and remembers every fault.

    Args:
        source: what faults begin with, usually the file's path.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[str] = []

    def fault(self, path: str, text: str) -> None:
        """Remember one line."""
        self.faults.append(f"{self.source}: {path}: {text}" if path else f"{self.source}: {text}")

    def attempt(self, read: Callable[[Any], Parsed], value: Any) -> Parsed | None:
        """What `read` makes of a value, or None after faults, which it raises with their paths."""
        try:
            return read(value)
        except InputError as error:
            self.faults += [f"{self.source}: {fault}" for fault in error.faults]
            return None

    def finish(self) -> None:
        """Raise InputError with every fault, if there is one."""
        if self.faults:
            raise InputError(*self.faults)

    def fixed(self, model: type[BaseModel], table: Any, path: str) -> Any:
        """A record without free fields, or None after a fault."""
        before = len(self.faults)
        tree = self.tree(model, table, path)
        for name, _ in free(tree, path):
            self.fault(name, "must be one value here, got a list or a range")
        return model.model_validate(tree_values(tree)) if len(self.faults) == before else None

    def tree(self, model: type[BaseModel], table: Any, path: str) -> Tree:
        """The tree of a table; fields that are left out take the record's defaults."""
        if not isinstance(table, dict):
            self.fault(path, f"must be a table, got {table!r}")
            return {}
        tree: Tree = {}
        for name in sorted(table.keys() - model.model_fields.keys()):
            self.fault(_join(path, name), unknown("key", name, model.model_fields))
        for name, field in model.model_fields.items():
            if name in table:
                node = self._node(field, table[name], _join(path, name))
                if node is not None:
                    tree[name] = node
            elif field.is_required():
                self.fault(_join(path, name), "is missing")
            else:
                default = field.get_default()
                plain = default.model_dump() if isinstance(default, BaseModel) else default
                tree[name] = cast(Node, self._node(field, plain, _join(path, name)))
        return tree

    def _node(self, field: FieldInfo, value: Any, path: str) -> Node | None:
        family = next((item for item in field.metadata if isinstance(item, Family)), None)
        if family:
            return self._alternatives(family, value if isinstance(value, list) else [value], path)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            return self.tree(field.annotation, value, path)
        if isinstance(value, list):
            checked = (self._leaf(field, item, path) for item in value)
            found = tuple(item for item in checked if item is not None)
            if not value:
                self.fault(path, "is an empty list; give at least one value")
            if len(set(found)) < len(found):
                self.fault(path, f"holds a value twice: {value}")
            return Choice(found) if len(found) > 1 else next(iter(found), None)
        if isinstance(value, dict):
            return self._range(field, value, path)
        return self._leaf(field, value, path)

    def _leaf(self, field: FieldInfo, value: Any, path: str) -> Scalar | None:
        try:
            leaf: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            checked: Scalar = TypeAdapter(leaf).validate_python(value, strict=True)
            if isinstance(checked, float) and not math.isfinite(checked):
                self.fault(path, f"must be finite, got {checked}")
                return None
            return checked
        except ValidationError as error:
            self.fault(path, _first_line(error, value))
            return None

    def _range(self, field: FieldInfo, table: dict[str, Any], path: str) -> Range | None:
        for name in sorted(table.keys() - {"low", "high", "step", "log"}):
            self.fault(_join(path, name), unknown("key", name, ("low", "high", "step", "log")))
        if "low" not in table or "high" not in table:
            self.fault(path, "a range needs both low and high")
            return None
        low, high = (self._leaf(field, table[end], _join(path, end)) for end in ("low", "high"))
        if low is None or high is None:
            return None
        step, log = table.get("step"), table.get("log", False)
        if not _is_number(low) or not _is_number(high):
            self.fault(path, "a range needs numbers; give a list of values instead")
        elif not isinstance(log, bool):
            self.fault(_join(path, "log"), f"must be true or false, got {log!r}")
        elif step is not None and not (_is_number(step) and step > 0):
            self.fault(_join(path, "step"), f"must be a number above zero, got {step!r}")
        elif step is not None and field.annotation is int and not float(step).is_integer():
            self.fault(_join(path, "step"), f"must be a whole number, got {step}")
        else:
            return self._checked(field, Range(cast(float, low), cast(float, high), step, log), path)
        return None

    def _checked(self, field: FieldInfo, node: Range, path: str) -> Range | None:
        before = len(self.faults)
        if not node.low < node.high:
            self.fault(path, f"low must be smaller than high, got low = {node.low}, high = {node.high}")
        elif node.step is not None and node.log:
            self.fault(path, "step and log cannot be used together; leave one out")
        elif node.step is not None and node.step > node.high - node.low:
            self.fault(_join(path, "step"), f"must not exceed high - low, got {node.step}")
        elif node.log and node.low <= 0:
            self.fault(path, f"a log range must begin above zero, got low = {node.low}")
        elif node.whole:
            self._grid(field, node, path)
        return node if len(self.faults) == before else None

    def _grid(self, field: FieldInfo, node: Range, path: str) -> None:
        """Fault a range of whole numbers between whose ends lies a value that the field refuses."""
        for value in islice(range(int(node.low), int(node.high) + 1, int(node.step or 1)), MAX_GRID):
            before = len(self.faults)
            self._leaf(field, value, path)
            if len(self.faults) > before:
                self.faults[-1] += "; give a list of values instead of a range"
                return

    def _alternatives(self, family: Family, values: list[Any], path: str) -> Node | None:
        members: dict[str, Tree] = {}
        if not values:
            self.fault(path, f"is an empty list; give at least one {family.what}")
        for value in values:
            table = {"kind": value} if isinstance(value, str) else value
            if not isinstance(table, dict) or not isinstance(table.get("kind"), str):
                self.fault(path, f"must be the name of a {family.what}, or a table with kind, got {value!r}")
            elif table["kind"] not in family.members:
                self.fault(path, unknown(family.what, table["kind"], family.members))
            elif table["kind"] in members:
                self.fault(path, f"'{table['kind']}' stands twice; give its parameters as lists instead")
            else:
                kind, before = table["kind"], len(self.faults)
                members[kind] = self.tree(family.members[kind], table, f"{path}.{kind}")
                if len(self.faults) == before:
                    self._combinations(family.members[kind], members[kind], f"{path}.{kind}")
        return Alternatives(members)

    def _combinations(self, model: type[BaseModel], tree: Tree, path: str) -> None:
        """Fault what fields forbid each other; a range is tried at its ends."""
        options = [[(name, value) for value in _samples(node)] for name, node in tree.items()]
        for combination in product(*options):
            try:
                model.model_validate(dict(combination))
            except ValidationError as error:
                self.fault(path, _first_line(error, None))
                return


def free(tree: Tree, path: str) -> Iterator[tuple[str, Choice | Range | Alternatives]]:
    """The free fields of a tree, with their dotted names."""
    for name, node in tree.items():
        here = _join(path, name)
        if isinstance(node, Choice | Range):
            yield here, node
        elif isinstance(node, Alternatives):
            if len(node.members) > 1:
                yield here, node
            for kind, member in node.members.items():
                yield from free(member, f"{here}.{kind}")
        elif isinstance(node, dict):
            yield from free(node, here)


def resolve(tree: Tree, pick: Pick, path: str) -> dict[str, Any]:
    """Plain values for a record: every free field is asked of `pick` under its dotted name."""
    values: dict[str, Any] = {}
    for name, node in tree.items():
        here = _join(path, name)
        if isinstance(node, Choice | Range):
            values[name] = pick(here, node)
        elif isinstance(node, Alternatives):
            kinds = tuple(node.members)
            kind = str(pick(here, Choice(kinds))) if len(kinds) > 1 else kinds[0]
            values[name] = {"kind": kind, **resolve(node.members[kind], pick, f"{here}.{kind}")}
        elif isinstance(node, dict):
            values[name] = resolve(node, pick, here)
        else:
            values[name] = node
    return values


def options(tree: Tree, path: str) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
    """Every field of a tree with the values it may take, a kind's name standing for a kind; a range by its ends."""
    for name, node in tree.items():
        here = _join(path, name)
        if isinstance(node, Alternatives):
            yield here, tuple(node.members)
            for kind, member in node.members.items():
                yield from options(member, f"{here}.{kind}")
        elif isinstance(node, dict):
            yield from options(node, here)
        else:
            yield here, _samples(node)


def tree_values(tree: Tree) -> dict[str, Any]:
    """Plain values of a tree that has no free field."""

    def refuse(name: str, _: Choice | Range) -> Scalar:
        raise AssertionError(f"{name} is free")

    return resolve(tree, refuse, "")


def _samples(node: Node) -> tuple[Any, ...]:
    if isinstance(node, Choice):
        return node.values
    return (node.low, node.high) if isinstance(node, Range) else (node,)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _first_line(error: ValidationError, value: Any) -> str:
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    text = first["msg"].replace("Input should be", "must be")
    return text if value is None else f"{text}, got {value!r}"
