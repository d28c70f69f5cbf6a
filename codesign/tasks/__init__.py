"""Tasks, one family to a file. To add one: its file, a line in `TASKS`, a test of its splits."""

from codesign.errors import InputError, unknown
from codesign.tasks.ru_phones import RuPhones
from codesign.tasks.task import Sequences, Splits, Task

TASKS: dict[str, Task] = {task.name: task for task in (RuPhones(),)}


def find(name: str) -> Task:
    """The task of that name. Raises InputError with the nearest name."""
    if name not in TASKS:
        raise InputError(unknown("task", name, TASKS))
    return TASKS[name]


__all__ = ["TASKS", "Sequences", "Splits", "Task", "find"]
