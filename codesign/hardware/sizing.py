"""The smallest accelerator that keeps limits: every number of processing elements is tried, none is guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.design import Accelerator, Network, TaskShape
from codesign.errors import InputError, unknown
from codesign.hardware import COST_FIELDS, Cost, Infeasible, Settings, estimate
from codesign.hardware.cost import Array

LARGEST_N_PE = 65536
"""Most processing elements that an Accelerator may have."""

PE_RULES = (
    Infeasible.PE_DIVIDES_HIDDEN | Infeasible.PE_FITS_BLOCK | Infeasible.PE_FITS_SELECTORS | Infeasible.PE_FITS_KIND
)
"""Bits of numbers of processing elements that the kind cannot use, however large the part."""

_CHUNK = 1024  # settings of one call; a kind may need a matrix of settings by columns of the state


@dataclass(frozen=True)
class Misfit:
    """A number of processing elements that will not do.

    Attributes:
        n_pe: the number.
        missed: the figures that miss their limits, as "lut = 5433".
        reasons: why it cannot run, a sentence each.
    """

    n_pe: int
    missed: tuple[str, ...]
    reasons: tuple[str, ...]


def smallest(network: Network, accelerator: Accelerator, shape: TaskShape, limits: Mapping[str, float]) -> Accelerator:
    """The accelerator with the fewest processing elements that can run and keeps all limits, in the worst case.

    Args:
        accelerator: of which everything but `n_pe` is kept.
        limits: the largest admissible value by name of `COST_FIELDS`; for throughput the smallest.

    Raises:
        InputError: a limit is no positive number or of no known figure, the technology has no such figure, or no
            number of processing elements keeps them; the line names the nearest that can run and what stops it.

    Example:
        >>> from codesign.design import Accelerator, Network, TaskShape
        >>> smallest(Network(), Accelerator(kind="dense"), TaskShape(16, 10), {"latency_s": 20e-6}).n_pe
        9
    """
    _check(limits, estimate(network, accelerator, shape))
    masks, excesses = [], []
    for first in range(1, LARGEST_N_PE + 1, _CHUNK):
        cost = _costs(network, accelerator, shape, range(first, min(first + _CHUNK, LARGEST_N_PE + 1)))
        masks.append(cost.infeasible)
        excesses.append(_excess(cost, limits))
        hits = np.flatnonzero(cost.feasible & (excesses[-1] <= 0))
        if len(hits):
            return accelerator.model_copy(update={"n_pe": first + int(hits[0])})
    mask, excess = np.concatenate(masks), np.concatenate(excesses)
    design = f"{accelerator.kind} on {accelerator.technology}"

    def misfit(i: np.intp) -> Misfit:
        n_pe = int(i) + 1
        return _misfit(_costs(network, accelerator, shape, [n_pe]), 0, n_pe, limits)

    if mask.all():
        least = misfit(np.argmin(np.bitwise_count(mask)))
        raise InputError(f"{design} cannot run with any n_pe; with {least.n_pe}: {'; '.join(least.reasons)}")
    nearest = np.argmin(np.where(mask == 0, excess, np.inf))
    # what the kind cannot use says nothing about the part
    useful = (mask & int(PE_RULES)) == 0
    best = np.argmin(np.where(useful, np.maximum(excess, 0.0), np.inf))
    stop = "no other n_pe does better"
    if excess[best] < excess[nearest]:
        other = misfit(best)
        reach = f"would have {' and '.join(other.missed)}" if other.missed else "would do"
        stop = f"n_pe = {other.n_pe} {reach}, but {'; '.join(other.reasons)}"
    near = misfit(nearest)
    raise InputError(
        f"{design} cannot keep {limits_text(limits)}; "
        f"the nearest is n_pe = {near.n_pe} with {' and '.join(near.missed)}; {stop}"
    )


def next_smaller(
    network: Network, accelerator: Accelerator, shape: TaskShape, limits: Mapping[str, float]
) -> Misfit | None:
    """What the next smaller number of processing elements that can run misses; None where no smaller one can run."""
    for last in range(accelerator.n_pe - 1, 0, -_CHUNK):
        n_pe = range(max(1, last - _CHUNK + 1), last + 1)
        cost = _costs(network, accelerator, shape, n_pe)
        runs = np.flatnonzero(cost.feasible)
        if len(runs):
            return _misfit(cost, int(runs[-1]), n_pe[int(runs[-1])], limits)
    return None


def limits_text(limits: Mapping[str, float]) -> str:
    """Limits in one phrase.

    >>> limits_text({"latency_s": 5e-5, "throughput": 1e4})
    'latency_s <= 5e-05 and throughput >= 10000'
    """
    return " and ".join(f"{figure} {_sign(figure)} {limit:g}" for figure, limit in limits.items())


def wants_more(figure: str) -> bool:
    """Whether more of a figure is better, so that a limit bounds it from below."""
    return figure == "throughput"


def _sign(figure: str) -> str:
    return ">=" if wants_more(figure) else "<="


def _check(limits: Mapping[str, float], cost: Cost) -> None:
    if not limits:
        raise InputError("no limit is given; a limit is a figure and its largest value, as latency_s and 5e-5")
    row = cost.row()
    for figure, limit in limits.items():
        if figure not in COST_FIELDS:
            raise InputError(unknown("figure", figure, COST_FIELDS))
        if not (np.isfinite(limit) and limit > 0):
            raise InputError(f"the limit of {figure} must be a number above zero, got {limit}")
        if row[figure] is None:
            there = ", ".join(name for name, value in row.items() if value is not None)
            raise InputError(f"{cost.facts['technology']} has no {figure}; it has {there}")


def _costs(network: Network, accelerator: Accelerator, shape: TaskShape, n_pe: Sequence[int]) -> Cost:
    settings = Settings.of(
        n_pe, accelerator.clock_hz, accelerator.batch, accelerator.dram_bits_per_s, accelerator.supply_v
    )
    return estimate(network, accelerator, shape, settings=settings)


def _excess(cost: Cost, limits: Mapping[str, float]) -> Array:
    """How far a setting is beyond the limit it misses most, as a share of the limit; 0 or less: all are kept."""
    # a difference has the right sign where a quotient rounds to 1
    excesses = [
        (limit - getattr(cost, figure) if wants_more(figure) else getattr(cost, figure) - limit) / limit
        for figure, limit in limits.items()
    ]
    return np.asarray(np.max(excesses, axis=0), np.float64)


def _misfit(cost: Cost, i: int, n_pe: int, limits: Mapping[str, float]) -> Misfit:
    row = cost.row(i)
    missed = [name for name, limit in limits.items() if _excess(cost, {name: limit})[i] > 0]
    return Misfit(n_pe, tuple(f"{name} = {row[name]:g}" for name in missed), tuple(cost.reasons(i)))
