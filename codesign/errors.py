"""What can go wrong, as exceptions whose text is one line: rule, what came, how to repair.

CodesignError
    InputError        a file, option or value of the user's is wrong
        StudyError    a results folder cannot be used as asked
        DataError     data are missing or damaged
    TrainingError     a training failed (for instance its loss is not finite)
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CodesignError(Exception):
    """Base of all errors that codesign raises on purpose."""


class InputError(CodesignError):
    """Wrong input; carries every fault found, one line each."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StudyError(InputError):
    """A results folder that cannot be used as asked."""


class DataError(InputError):
    """Data that are missing or damaged."""


class TrainingError(CodesignError):
    """A training that cannot go on."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One line that refuses `name` and offers the nearest known one.

    >>> unknown("part", "xc7z02", ["xc7z020", "xcku060"])
    "unknown part 'xc7z02'; did you mean 'xc7z020'? Known: xc7z020, xcku060"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {what} '{name}'; {hint}Known: {', '.join(names)}"
