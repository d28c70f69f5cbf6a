"""Clips of a moving garment: real images, synthetic motion, 57,600 inputs a step.

An image of Fashion-MNIST, doubled to 56 x 56 pixels and coloured, moves over a plain background of
160 x 120 pixels, behind a bar that stands still. Its class is one of 8 directions at one of 2 speeds.
Every frame is shaken by up to a pixel and has noise of its own. A step is the difference of two frames
that follow each other, so a clip of 7 frames has 6 steps.

The middle of a path is drawn alike for all classes: where the garment is in the middle frame says
nothing of its class, what it is and which colour it has neither. The first and the last frame do say
something: who moves right begins further left.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.tasks.classification import ClassificationTask, labelled
from codesign.tasks.images import FASHION, FASHION_VALIDATION, FashionRows, Pixels, fashion
from codesign.tasks.packages import Package
from codesign.tasks.task import Splits

VERSION = 1  # of the clips: raise it when a line below changes them
HEIGHT, WIDTH, SIDE = 120, 160, 56  # pixels: canvas and garment
N_FRAMES = 7
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # down, right; clockwise
SPEEDS = (2.0, 7.0)  # pixels a frame
N_CLASSES = len(SPEEDS) * len(DIRECTIONS)
MIDDLE_REACH = (10.0, 20.0)  # pixels between the middles of path and canvas at most: down, right
SHAKE = 1.0  # pixels at most
BACKGROUND = (0, 99)
CONTRAST = (100, 140)  # by which the garment is brighter than the background in each colour
BAR = (8, 24)  # pixels of width
NOISE = 6.0  # standard deviation, of 255
N_NOISE = 1 << 22  # values drawn once, from which every frame takes a stretch
N_CLIPS = {"full": (1600, 400, 400), "mini": (400, 100, 400)}


class MovingFashion(ClassificationTask):
    """Which way a garment moves, and how fast."""

    name: Literal["moving_fashion"] = "moving_fashion"
    subset: Literal["full", "mini"] = "full"
    summary: ClassVar[str] = (
        "which of 8 ways at which of 2 speeds a garment moves, synthetic motion of real images, "
        "6 differences of frames of 160 x 120 x 3, 2,400 clips"
    )
    source: ClassVar[str] = f"clips made by codesign (version {VERSION}) of {FashionRows.source}"
    licence: ClassVar[str] = FashionRows.licence
    citation: ClassVar[str] = FashionRows.citation
    synthetic: ClassVar[str] = "motion of real images"
    package: ClassVar[Package] = FASHION

    @property
    def shape(self) -> TaskShape:
        """57,600 differences (rows, columns, colours), 16 classes."""
        return TaskShape(HEIGHT * WIDTH * 3, N_CLASSES)

    def splits(self) -> Splits:
        """Clips of training images, of the images that validate `fashion_rows`, and of test images.

        `mini` has the first clips of `full`. A difference of brightnesses 0..255 is halved, rounded down,
        and given as int8 in units of 1/128.

        Raises:
            DataError: if the images were not fetched or are damaged.
        """
        return _splits(self.subset)

    def checksum(self) -> str:
        """Of the package and the version of the clips."""
        return hashlib.sha256(f"{FASHION.sha256} clips {VERSION}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _splits(subset: str) -> Splits:
    train, test = fashion()
    images = (train.pixels, train.pixels[FASHION_VALIDATION], test.pixels)
    drawn = zip(images, N_CLIPS["full"], N_CLIPS[subset], strict=True)
    parts = (clips(pixels[:n], seed, n_kept) for seed, (pixels, n, n_kept) in enumerate(drawn))
    return Splits(*(labelled(x, label) for x, label in parts))


def clips(garments: Pixels, seed: int, n_kept: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """A clip of each garment, (n, 28, 28), as many of each class as of every other.

    Returns:
        Differences (n_kept, 6, 57600) and classes (n_kept,) of the first clips: 8 * speed + direction.
    """
    rng = np.random.default_rng(seed)
    n = len(garments)
    label = rng.permutation(np.arange(n) % N_CLASSES)
    corner = _paths(rng, label)
    background = rng.integers(*BACKGROUND, (n, 3), endpoint=True)
    contrast = rng.integers(*CONTRAST, (n, 3), endpoint=True)
    bar_width = rng.integers(*BAR, n, endpoint=True)
    bar_across = rng.integers(2, size=n)
    bar_place = rng.random(n)
    bar_colour = rng.integers(0, 256, (n, 3))
    noise = np.rint(rng.normal(0.0, NOISE, N_NOISE)).astype(np.int16)
    noise_begin = rng.integers(0, N_NOISE - HEIGHT * WIDTH * 3, (n, N_FRAMES))

    x = np.empty((n_kept, N_FRAMES - 1, HEIGHT * WIDTH * 3), np.int8)

    def draw(row: int) -> None:
        frames = np.empty((N_FRAMES, HEIGHT, WIDTH, 3), np.int16)
        frames[:] = background[row]
        garment = (garments[row].repeat(2, 0).repeat(2, 1)[..., None] * contrast[row] // 255).astype(np.int16)
        for frame, (top, left) in zip(frames, corner[row], strict=True):
            frame[top : top + SIDE, left : left + SIDE] += garment
        begin = int(bar_place[row] * ((HEIGHT, WIDTH)[bar_across[row]] - bar_width[row]))
        np.moveaxis(frames, 1 + bar_across[row], 0)[begin : begin + bar_width[row]] = bar_colour[row]
        flat = frames.reshape(N_FRAMES, -1)
        for frame, first in zip(flat, noise_begin[row], strict=True):
            frame += noise[first : first + len(frame)]
        x[row] = np.diff(np.clip(flat, 0, 255, out=flat), axis=0) >> 1

    with ThreadPoolExecutor() as pool:  # NumPy works on several clips at once
        list(pool.map(draw, range(n_kept)))
    return x, label[:n_kept]


def _paths(rng: np.random.Generator, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Upper left corner of the garment in each frame, (n, frames, 2) rows and columns."""
    direction = np.array(DIRECTIONS)[label % len(DIRECTIONS)]
    speed = np.array(SPEEDS)[label // len(DIRECTIONS)]
    velocity = direction * (speed / np.linalg.norm(direction, axis=1))[:, None]
    middle = (np.array([HEIGHT, WIDTH]) - SIDE) / 2 + rng.uniform(-1.0, 1.0, (len(label), 2)) * MIDDLE_REACH
    time = np.arange(N_FRAMES) - (N_FRAMES - 1) / 2
    shake = rng.uniform(-SHAKE, SHAKE, (len(label), N_FRAMES, 2))
    path: NDArray[np.float64] = middle[:, None] + velocity[:, None] * time[:, None] + shake
    return np.rint(path).astype(np.int64)
