"""Numbers as users write them on a command line: 200MHz, 51.2Gbit/s, 2us; and lists and ranges of them."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice

from codesign.errors import InputError, unknown

PREFIXES = {"p": -12, "n": -9, "u": -6, "\u00b5": -6, "\u03bc": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9}
"""SI prefixes and their powers of ten; the micro sign is either of two characters."""

MAX_VALUES = 10_000
"""Most settings of a sweep."""

_NUMBER = re.compile(r"([+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30}))(?:[eE]([+-]?\d{1,2}))?([^\d.].*)?")


def number(text: str, unit: str) -> Decimal:
    """A number, perhaps with an SI prefix and its unit.

    Raises:
        InputError: it is no number, or has another unit.

    Example:
        >>> [float(number(text, "Hz")) for text in ("200MHz", "200M", "2e8", "200 MHz")]
        [200000000.0, 200000000.0, 200000000.0, 200000000.0]
    """
    match = _NUMBER.fullmatch(text.strip())
    suffix = (match[3] or "").strip().removesuffix(unit).strip() if match else ""
    if match is None or suffix not in PREFIXES:
        letters = " ".join(letter for letter in PREFIXES if letter.isascii() and letter)
        ends = f"{letters}, and the unit {unit}" if unit else letters
        raise InputError(f"'{text}' is not a number; one may end in a prefix, {ends}")
    # decimal, so that 50u is the same as 5e-5 and 0.8 in steps of 0.1 meets 1.1
    return Decimal(match[1]).scaleb(int(match[2] or 0) + PREFIXES[suffix])


def limit(text: str, units: Mapping[str, str]) -> tuple[str, float]:
    """FIELD=VALUE, as latency_s=50us.

    Args:
        units: the known fields and what a value may be written in.

    Raises:
        InputError: the form is another, the field is unknown, or the value is no number.
    """
    field, value = _sides(text, units, "FIELD=VALUE with a number, as latency_s=50us")
    return field, float(number(value, units[field]))


def sweep(text: str) -> tuple[str, list[float]]:
    """FIELD=VALUES of an accelerator's setting, as n_pe=8:64:8, clock_hz=50MHz:400MHz:x2 or batch=1,8,16.

    Raises:
        InputError: the field is unknown, there are no values or too many, or the accelerator refuses one.
    """
    from codesign.design import Accelerator
    from codesign.inspect.sweep import SETTING_UNITS
    from codesign.knobs import Reader

    field, spec = _sides(text, SETTING_UNITS, "FIELD=VALUES, as n_pe=8:64:8, n_pe=8:2048:x2 or batch=1,8,16")
    reader = Reader(text)
    exact = reader.attempt(lambda spec: _values(spec, SETTING_UNITS[field]), spec) or []
    reader.finish()
    counted = Accelerator.model_fields[field].annotation is int
    parts = [value for value in exact if value != value.to_integral_value()]
    if counted and parts:
        raise InputError(f"{text}: {field} must be whole, got {float(parts[0]):g}")
    values = [int(value) if counted else float(value) for value in exact]
    for extreme in sorted({min(values), max(values)}):
        reader.fixed(Accelerator, {field: extreme}, "")
    reader.finish()
    return field, values


def _sides(text: str, known: Mapping[str, str], form: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"'{text}' is not of the form {form}")
    if field not in known:
        raise InputError(unknown("field", field, known))
    return field, value


def _values(spec: str, unit: str) -> list[Decimal]:
    if ":" in spec:
        return _range(spec, unit)
    values = [number(item, unit) for item in spec.split(",")]
    if len(set(values)) < len(values):
        raise InputError("holds a value twice")
    return values


def _range(spec: str, unit: str) -> list[Decimal]:
    parts = spec.split(":")
    if len(parts) != 3:
        raise InputError("a range is FIRST:LAST:STEP, as 8:64:8, or FIRST:LAST:xFACTOR, as 8:64:x2")
    first, last = number(parts[0], unit), number(parts[1], unit)
    if first >= last:
        raise InputError("is empty; the first value must be smaller than the last")
    if parts[2].startswith("x"):
        steps = _geometric(first, last, number(parts[2][1:], ""))
    else:
        steps = _linear(first, last, number(parts[2], unit))
    values = list(islice(steps, MAX_VALUES + 1))
    if len(values) > MAX_VALUES:
        raise InputError(f"holds more than {MAX_VALUES} values; take larger steps")
    if len(values) == 1:
        raise InputError("holds its first value only; take smaller steps")
    return values


def _geometric(value: Decimal, last: Decimal, factor: Decimal) -> Iterator[Decimal]:
    if factor <= 1:
        raise InputError("would never end; the factor must be above 1")
    if value <= 0:
        raise InputError("would never end; a range by a factor must begin above zero")
    while value <= last:
        yield value
        value *= factor


def _linear(value: Decimal, last: Decimal, step: Decimal) -> Iterator[Decimal]:
    if step <= 0:
        raise InputError("would never end; the step must be above zero")
    while value <= last:
        yield value
        value += step
