"""design.toml: one design with its task, written by hand or by an export.

    task = { name = "ru_phones", subset = "mini" }
    [network]
    [accelerator]

Exports add the tables recipe, cost, metrics and provenance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from codesign import tasks
from codesign.design import Design, Recipe
from codesign.errors import InputError, unknown
from codesign.knobs import Reader, read_toml
from codesign.tasks import Task

DESIGN_TABLES = ("task", "network", "accelerator")
EXPORT_TABLES = ("recipe", "cost", "metrics", "provenance")


@dataclass(frozen=True)
class Exported:
    """The content of an exported design.toml.

    Attributes:
        design, task, recipe: the design, what it learned, and how.
        cost: figures of one step.
        metrics: of the exported weights: tables `validation` and, after confirm, `test`.
        provenance: study, trial, seed, data checksum, versions.
    """

    design: Design
    task: Task
    recipe: Recipe
    cost: dict[str, Any]
    metrics: dict[str, Any]
    provenance: dict[str, Any]


def read_design(path: Path) -> tuple[Design, Task]:
    """The design and the task of a file.

    Raises:
        InputError: with one line for every fault.
    """
    tables = read_toml(path)
    reader = Reader(str(path))
    known = (*DESIGN_TABLES, *EXPORT_TABLES)
    for key in sorted(tables.keys() - set(known)):
        reader.fault(key, unknown("table", key, known))
    task = reader.attempt(tasks.parse, tables.get("task"))
    body = {name: tables[name] for name in ("network", "accelerator") if name in tables}
    design = reader.fixed(Design, body, "")
    reader.finish()
    assert task is not None  # its faults would have been raised
    return design, task


def read_export(path: Path) -> Exported:
    """Everything an export wrote."""
    design, task = read_design(path)
    tables = read_toml(path)
    missing = [name for name in EXPORT_TABLES if not isinstance(tables.get(name), dict)]
    if missing:
        raise InputError(f"{path}: has no table {', '.join(missing)}; it was not written by an export")
    reader = Reader(str(path))
    recipe = reader.fixed(Recipe, tables["recipe"], "recipe")
    reader.finish()
    return Exported(design, task, recipe, tables["cost"], tables["metrics"], tables["provenance"])


def export_text(content: Exported) -> str:
    """The file's text; what is None is left out, as TOML has no such value."""
    return tomli_w.dumps(
        _without_none(
            {
                "task": content.task.model_dump(mode="json"),
                **content.design.model_dump(mode="json"),
                "recipe": content.recipe.model_dump(mode="json"),
                "cost": content.cost,
                "metrics": content.metrics,
                "provenance": content.provenance,
            }
        )
    )


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
