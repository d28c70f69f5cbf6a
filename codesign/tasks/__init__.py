"""Tasks, one family to a file. To add one: its file, a line in `TASKS` or `READERS`, a test of its splits."""

from typing import Any, get_args

from pydantic import ValidationError

from codesign.errors import InputError, unknown
from codesign.tasks.corpora import LinuxChars, ShakespeareChars, ShakespeareWords
from codesign.tasks.hapt import Hapt
from codesign.tasks.images import FashionPixels, FashionRows, Idx, Mnist5kRows
from codesign.tasks.labels import Labels
from codesign.tasks.moving_fashion import MovingFashion
from codesign.tasks.ru_phones import RuPhones
from codesign.tasks.series import JapaneseVowels, Npz, Ts, Ucr
from codesign.tasks.speech_commands import SpeechCommands
from codesign.tasks.task import SHARE, Answers, Metric, Sequences, Splits, Task
from codesign.tasks.text import Ptb, Text, Text8
from codesign.tasks.timit import Timit
from codesign.tasks.video import Video

TASKS: dict[str, type[Task]] = {
    "ru_phones": RuPhones,
    "linux_chars": LinuxChars,
    "shakespeare_chars": ShakespeareChars,
    "shakespeare_words": ShakespeareWords,
    "fashion_rows": FashionRows,
    "fashion_pixels": FashionPixels,
    "mnist5k_rows": Mnist5kRows,
    "japanese_vowels": JapaneseVowels,
    "hapt": Hapt,
    "moving_fashion": MovingFashion,
}
"""Built-in tasks by name."""

READERS: dict[str, type[Task]] = {
    "text": Text,
    "ptb": Ptb,
    "text8": Text8,
    "timit": Timit,
    "labels": Labels,
    "speech_commands": SpeechCommands,
    "idx": Idx,
    "ts": Ts,
    "ucr": Ucr,
    "npz": Npz,
    "video": Video,
}
"""Readers of a user's own data by name."""

EXAMPLE = 'write for instance task = { name = "ru_phones" } or task = { reader = "text", path = "book.txt" }'


def parse(table: Any, path: str = "task") -> Task:
    """The task that a table of a search space or design file asks for; a bare string is a name.

    Args:
        table: {name, ...} or {reader, path, ...}.
        path: begins every fault.

    Raises:
        InputError: with one line for every fault.
    """
    if table is None:
        raise InputError(f"{path}: is missing; {EXAMPLE}")
    if isinstance(table, str):
        table = {"name": table}
    if not isinstance(table, dict) or ("name" in table) == ("reader" in table):
        raise InputError(f"{path}: needs either a name or a reader, got {table!r}; {EXAMPLE}")
    key, family = ("name", TASKS) if "name" in table else ("reader", READERS)
    if not isinstance(table[key], str) or table[key] not in family:
        what = "task" if key == "name" else "reader"
        raise InputError(f"{path}.{key}: {unknown(what, str(table[key]), family)}")
    model = family[table[key]]
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise InputError(*(f"{path}.{_fault(model, fault)}" for fault in error.errors())) from None


def find(name: str, **fields: Any) -> Task:
    """A built-in task. Raises InputError with the nearest name."""
    return parse({"name": name, **fields})


def _fault(model: type[Task], fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: {unknown('key', where, model.model_fields)}"
    if fault["type"] == "missing":
        return f"{where}: is missing"
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        return f"{where}: {unknown(where, fault['input'], get_args(model.model_fields[where].annotation))}"
    text = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
    where = where or next(iter(model.model_fields))
    return f"{where}: {text.replace('Input should be', 'must be')}, got {fault['input']!r}"


__all__ = ["READERS", "SHARE", "TASKS", "Answers", "Metric", "Sequences", "Splits", "Task", "find", "parse"]
