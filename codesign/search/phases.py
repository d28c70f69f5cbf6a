"""E-RNN's two phases: choose the model with few trainings, then the hardware without any.

Phase I. The part bounds the block size of circulant kernels: from below by the memory that must hold the weights, from
above by where the transforms eat what a doubled block saves. Within the bounds the search begins with the network that
keeps most weights, and then makes it cheaper for as long as the error stays within a tolerance of that first one's:
larger blocks in all kernels, then in the input kernel alone, then smaller layers, then the next cell (a GRU for an
LSTM). A step that costs too much error is taken back, and the next kind of step is tried.

Phase II. Every accelerator of the space is costed for what was trained (`accelerators.py`).

It assumes that error rises with every step, and that steps do not help each other; it looks at one path, and what lies
beside it is never seen.

References:
    Li et al., "E-RNN: design optimization for efficient recurrent neural networks in FPGAs", HPCA 2019, section on
        Phase I and Phase II. The order of the steps is recalled, not read.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

from codesign import hardware
from codesign.design import Design
from codesign.errors import InputError
from codesign.hardware.accelerators.circulant_fft import block_size_bounds
from codesign.hardware.workload import workload
from codesign.knobs import Choice, Range, Scalar
from codesign.search.accelerators import Grid
from codesign.search.space import SearchSpace

Point = dict[str, Scalar]
"""Values of the free fields of network and recipe, by dotted name."""

BLOCKS = ".block_circulant.block_size"


class Phases:
    """The path through a search space.

    Args:
        space: whose kernels are block-circulant, with at least one free block size.

    Raises:
        InputError: if there is no block size to choose, or nothing in the space can run.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.grid = space, Grid(space)
        if not self._knobs(BLOCKS):
            raise InputError("search.sampler: ernn needs a block_circulant kernel with several values of block_size")

    def next(self, errors: Mapping[frozenset[tuple[str, Scalar]], float]) -> Point | None:
        """What to train next, given the errors of what was trained; None at the end of the path.

        Args:
            errors: by point, as `key` writes it; infinite where a training failed.
        """
        best = self.first
        if key(best) not in errors:
            return best
        bound = errors[key(best)] + self.space.settings.tolerance
        for steps in (self._larger_blocks, self._larger_input_block, self._smaller_layer, self._next_cell):
            for point in steps(best):
                if not self.admissible(point):
                    break
                if key(point) not in errors:
                    return point
                if errors[key(point)] > bound:
                    break
                best = point
        return None

    @cached_property
    def first(self) -> Point:
        """The admissible point that keeps most weights: the smallest blocks that fit, the largest layer."""
        start = self._point({})
        hidden = self._knobs("network.hidden") + self._knobs("network.projection")
        point = start | {name: self._values(name)[-1] for name in hidden}
        candidates = [point, *self._larger_blocks(point)]
        for candidate in candidates:
            if self.admissible(candidate):
                return candidate
        raise InputError("search.sampler: ernn found no block size with which the largest layer runs on the part")

    def admissible(self, point: Point) -> bool:
        """Whether doubled blocks still pay on the part, and the network runs on some accelerator within the limits."""
        network = self._design(point).network
        work = workload(network, self.space.task.shape)
        parts = {one.technology for one, _, _ in self.grid.groups}
        most = max(block_size_bounds(work, hardware.technology(part)).largest for part in parts)
        if any(int(point[name]) > most for name in self._knobs(BLOCKS)):
            return False
        return bool(self.grid.costed(network, None, self.space.limits))

    def _larger_blocks(self, point: Point) -> Iterator[Point]:
        yield from self._raised(point, self._knobs(BLOCKS), 1)

    def _larger_input_block(self, point: Point) -> Iterator[Point]:
        yield from self._raised(point, [name for name in self._knobs(BLOCKS) if ".input_kernel." in name], 1)

    def _smaller_layer(self, point: Point) -> Iterator[Point]:
        yield from self._raised(point, self._knobs("network.hidden") + self._knobs("network.projection"), -1)

    def _next_cell(self, point: Point) -> Iterator[Point]:
        for name in self._knobs("network.cell"):
            for cell in self._values(name):
                if cell != point[name]:
                    yield self._point(point | {name: cell})

    def _raised(self, point: Point, names: list[str], places: int) -> Iterator[Point]:
        """The point with fields some places further in their values, again and again while all can move."""
        while names:
            values = {name: self._values(name) for name in names}
            at = {name: values[name].index(point[name]) + places for name in names}
            if any(not 0 <= at[name] < len(values[name]) for name in names):
                return
            point = self._point(point | {name: values[name][at[name]] for name in names})
            yield point

    def _knobs(self, suffix: str) -> list[str]:
        """Free fields of the network whose names end so."""
        return [name for name in self.space.knobs if name.startswith("network.") and name.endswith(suffix)]

    def _values(self, name: str) -> list[Scalar]:
        node = self.space.knobs[name]
        assert isinstance(node, Choice | Range)
        return _ordered(node)

    def _point(self, wanted: Mapping[str, Scalar]) -> Point:
        """A whole point: what is wanted, circulant structures, and else the first value of every field."""
        found: Point = {}

        def pick(name: str, node: Choice | Range) -> Scalar:
            values = _ordered(node)
            value = wanted.get(name, "block_circulant" if "block_circulant" in values else values[0])
            found[name] = value
            return value

        self.space.design(pick)
        return found

    def _design(self, point: Point) -> Design:
        return self.space.design(lambda name, _: point[name])[0]


def key(point: Mapping[str, Scalar]) -> frozenset[tuple[str, Scalar]]:
    """A point without its accelerator, for look-up."""
    return frozenset((name, value) for name, value in point.items() if not name.startswith("accelerator."))


def _ordered(node: Choice | Range) -> list[Scalar]:
    """The values of a field: whole numbers from small to large, others as they were given; of other ranges the low."""
    if isinstance(node, Choice):
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in node.values)
        return sorted(node.values) if whole else list(node.values)
    return list(range(int(node.low), int(node.high) + 1, int(node.step or 1))) if node.whole else [node.low]
