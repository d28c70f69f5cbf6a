"""Examples and Hypothesis strategies that several test files share."""

from typing import NamedTuple

from hypothesis import strategies as st

from codesign.compression import BlockCirculant, CoarseGrain, Dense, Structure


class Example(NamedTuple):
    """A structure, and the side of the block to which it pads a kernel."""

    structure: Structure
    side: int


EXAMPLES = {
    "dense": Example(Dense(), 1),
    "block_circulant 2": Example(BlockCirculant(block_size=2), 2),
    "block_circulant 8": Example(BlockCirculant(block_size=8), 8),
    "block_circulant 64": Example(BlockCirculant(block_size=64), 64),
    "coarse_grain 8 of 2": Example(CoarseGrain(level1_block=8, level1_keep=0.5, level2_block=2, level2_keep=0.25), 8),
    "coarse_grain 4 of 4": Example(CoarseGrain(level1_block=4, level1_keep=0.3, level2_block=4, level2_keep=1.0), 4),
    "coarse_grain 16 of 1": Example(
        CoarseGrain(level1_block=16, level1_keep=1.0, level2_block=1, level2_keep=0.125), 16
    ),
}
"""Every kind of structure, with blocks that fit a layer and blocks that do not."""

TRIVIAL = {
    "dense": Dense(),
    "block_circulant": BlockCirculant(block_size=1),
    "coarse_grain": CoarseGrain(level1_block=1, level1_keep=1.0, level2_block=1, level2_keep=1.0),
}
"""Each kind of structure at the setting that compresses nothing."""

SHAPES = [(8, 8), (51, 39), (5, 1), (16, 40)]
"""Rows and columns of kernels; 51 and 39 are no multiple of any block."""

block_sizes = st.sampled_from([1, 2, 4, 8, 16])
keep_ratios = st.floats(0.01, 1.0)


@st.composite
def coarse_grains(draw: st.DrawFn) -> CoarseGrain:
    """Coarse-grain structures whose blocks nest."""
    level1 = draw(block_sizes)
    return CoarseGrain(
        level1_block=level1,
        level1_keep=draw(keep_ratios),
        level2_block=draw(block_sizes.filter(lambda side: side <= level1)),
        level2_keep=draw(keep_ratios),
    )


structures: st.SearchStrategy[Structure] = st.one_of(
    st.just(Dense()), st.builds(BlockCirculant, block_size=block_sizes), coarse_grains()
)

sizes = st.integers(1, 24)
seeds = st.integers(0, 1000)
