"""What a video shows, from folders of the user's videos: UCF11, UCF101, or one folder for each class.

A step is a whole frame, all pixels of it: 57,600 inputs at 160 x 120, as networks with compressed input
kernels are shown on (Yang et al., Tensor-Train Recurrent Neural Networks for Video Classification, ICML 2017).
Videos are decoded by PyAV, the extra `video`; arrays of frames (.npy) need no decoder.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from codesign.design import TaskShape
from codesign.errors import DataError, InputError
from codesign.tasks.classification import ClassificationTask, labelled
from codesign.tasks.feature_cache import cached
from codesign.tasks.labels import read_lines
from codesign.tasks.task import Splits

RECIPE = 1  # raise it when the features of a video change, so that kept ones are made again
ARRAY = ".npy"
VIDEOS = (ARRAY, ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
UCF101_NAME = re.compile(r"(.*_g\d+)_c\d+")
UCF101_LISTS = "ucfTrainTestlist"
ZERO = 128  # the pixel value that is feature 0
NEEDED = 'reading videos needs PyAV; install it with `pip install "codesign[video]"`'

Pixels = Annotated[int, Field(ge=8, le=1024)]


class Video(ClassificationTask):
    """A class for every video.

    A folder with the lists of UCF101 (`testlist01.txt`, or in a folder `ucfTrainTestlist`) is split by them, and
    the last fifth of the training groups of each class is validation. In all others the last fifth of the
    groups of each class, in the order of their names, is test, the fifth before validation. A group, in which
    all videos show the same scene, is a folder in a class folder, `gNN` in a file's name (`_gNN_cNN`), or
    else one file.

    Attributes:
        path: a folder with one folder of videos for each class; folders called `Annotation` are passed over.
        size: (width, height) that every frame is stretched to; arrays must have it.
        frames: steps of a sequence: the middles of as many equal parts of the video.
        differences: feed how each frame differs from the one before, from `frames` + 1 of them.
        fold: which of the lists: 1 is `trainlist01.txt` and `testlist01.txt`.
    """

    reader: Literal["video"] = "video"
    path: str
    size: tuple[Pixels, Pixels] = (160, 120)
    frames: int = Field(default=6, ge=1, le=256)
    differences: bool = False
    fold: int = Field(default=1, ge=1, le=99)
    summary: ClassVar[str] = "class of a video from a few whole frames, red, green and blue of each pixel"
    source: ClassVar[str] = "your own videos"
    licence: ClassVar[str] = "yours"

    @property
    def shape(self) -> TaskShape:
        """Width x height x 3 inputs, a class for every folder with videos."""
        width, height = self.size
        return TaskShape(3 * width * height, len(_videos(self.path, self.fold).classes))

    def splits(self) -> Splits:
        """Videos by group; features are int8.

        A pixel is its value less 128, a difference is half of it, rounded down; both in units of 1/128. They
        stand in the order (row, column, colour).

        Raises:
            DataError: if videos or lists are missing or damaged, a class has fewer than three groups, or PyAV
                is not installed.
            InputError: if there are no lists for `fold`.
        """
        return _splits(self)

    def checksum(self) -> str:
        """Over the names and sizes of the videos and which split each is in."""
        return _videos(self.path, self.fold).checksum


@dataclass(frozen=True)
class _Videos:
    """All videos, the training ones first, then validation, then test; by name in each.

    Attributes:
        names: paths in the folder, with `/`; the first part is the class.
        cuts: where each split begins, and the end.
    """

    classes: tuple[str, ...]
    names: list[str]
    cuts: tuple[int, int, int, int]
    checksum: str


@lru_cache(maxsize=2)
def _videos(path: str, fold: int) -> _Videos:
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{path}: is no folder; expected one with a folder of videos for each class")
    names = sorted(_names(root))
    classes = tuple(sorted({name.split("/")[0] for name in names}))
    if len(classes) < 2:
        raise DataError(f"{path}: has videos of {len(classes)} classes, expected at least two folders CLASS/VIDEO")
    lists = next((folder for folder in (root, root / UCF101_LISTS) if any(folder.glob("testlist*.txt"))), None)
    if lists is None and fold > 1:
        raise InputError(f"task.fold: got {fold}, but {path} has no testlist{fold:02d}.txt")
    parts = _by_groups(path, names) if lists is None else _by_lists(lists, names, fold)
    lines = "".join(
        f"{split} {name} {(root / name).stat().st_size}\n" for split, part in enumerate(parts) for name in part
    )
    first, second, third = (int(end) for end in np.cumsum([len(part) for part in parts]))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return _Videos(classes, [name for part in parts for name in part], (0, first, second, third), digest)


def _names(root: Path) -> Iterator[str]:
    for file in root.glob("*/**/*"):
        inner = file.relative_to(root)
        hidden = any(part.startswith(".") or part == "Annotation" for part in inner.parts)
        if file.suffix.lower() in VIDEOS and not hidden:
            yield inner.as_posix()


def _group(name: str) -> tuple[str, str]:
    """Class and group of a video."""
    folder, *inner = name.split("/")
    if len(inner) > 1:
        return folder, inner[0]
    stem = Path(inner[0]).stem
    in_name = UCF101_NAME.fullmatch(stem)
    return folder, in_name[1] if in_name else stem


def _fifth(names: list[str], before_last: int = 0) -> set[tuple[str, str]]:
    """A fifth of the groups of every class, at least one: the last, or so many fifths before it."""
    groups: dict[str, list[str]] = {}
    for folder, group in sorted(set(map(_group, names))):
        groups.setdefault(folder, []).append(group)
    chosen = set()
    for folder, found in groups.items():
        n = max(1, len(found) // 5)
        end = len(found) - before_last * n
        chosen |= {(folder, group) for group in found[end - n : end]}
    return chosen


def _by_groups(path: str, names: list[str]) -> list[list[str]]:
    validation, test = _fifth(names, 1), _fifth(names)
    train = [name for name in names if _group(name) not in validation | test]
    if few := sorted({name.split("/")[0] for name in names} - {name.split("/")[0] for name in train}):
        raise DataError(f"{path}/{few[0]}: has fewer than three groups of videos, one for each split")
    return [train, *([name for name in names if _group(name) in groups] for groups in (validation, test))]


def _by_lists(lists: Path, names: list[str], fold: int) -> list[list[str]]:
    listed = []
    for kind in ("train", "test"):
        path = lists / f"{kind}list{fold:02d}.txt"
        listed.append(sorted({line.split()[0] for line in read_lines(path) if line.strip()}))
        if missing := sorted(set(listed[-1]) - set(names)):
            raise DataError(f"{path}: names {missing[0]}, which is missing ({len(missing)} of {len(listed[-1])} are)")
    known, test = listed
    if both := sorted(set(map(_group, known)) & set(map(_group, test))):
        raise DataError(f"{path}: has videos of {'/'.join(both[0])}, a group that is in the training list too")
    validation = _fifth(known)
    parts = [[name for name in known if (_group(name) in validation) == later] for later in (False, True)]
    if not all([*parts, test]):
        raise DataError(f"{path}: leaves {len(parts[0])} + {len(parts[1])} + {len(test)} videos for the three splits")
    return [*parts, test]


@lru_cache(maxsize=1)
def _splits(task: Video) -> Splits:
    videos = _videos(task.path, task.fold)
    options = (*task.size, task.frames, int(task.differences))
    kept = cached("video", (RECIPE, videos.checksum, *options), lambda: {"x": _features(task, videos.names)})
    label = np.array([videos.classes.index(name.split("/")[0]) for name in videos.names])
    return Splits(*(labelled(kept["x"][a:b], label[a:b]) for a, b in pairwise(videos.cuts)))


def _features(task: Video, names: list[str]) -> NDArray[np.int8]:
    """Of every video, (n, frames, inputs)."""
    width, height = task.size
    x = np.empty((len(names), task.frames, 3 * width * height), np.int8)
    for row, name in enumerate(names):
        path = Path(task.path) / name
        read = _array_frames if path.suffix.lower() == ARRAY else _decoded_frames
        pixels = read(path, task.size, task.frames + task.differences).reshape(-1, x.shape[2]).astype(np.int16)
        x[row] = np.diff(pixels, axis=0) // 2 if task.differences else pixels - ZERO
    return x


def _middles(n: int, n_parts: int) -> list[int]:
    """The middle of each of `n_parts` equal parts of `n` frames."""
    return [(2 * part + 1) * n // (2 * n_parts) for part in range(n_parts)]


def _array_frames(path: Path, size: tuple[int, int], n: int) -> NDArray[np.uint8]:
    """`n` frames (n, height, width, 3) of an array of that kind."""
    try:
        video: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        raise DataError(f"{path}: is no array of frames, or damaged") from None
    wanted = (size[1], size[0], 3)
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[1:] != wanted or not len(video):
        raise DataError(
            f"{path}: holds {video.dtype} {video.shape}, expected uint8 (frames, {', '.join(map(str, wanted))})"
        )
    return np.asarray(video[_middles(len(video), n)])


def _decoded_frames(path: Path, size: tuple[int, int], n: int) -> NDArray[np.uint8]:
    """`n` frames (n, height, width, 3) of a video file; it is decoded twice, since headers often miscount frames."""
    try:
        import av
    except ImportError:
        raise DataError(NEEDED) from None

    def decoded() -> Iterator[av.VideoFrame]:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            yield from container.decode(video=0)

    try:
        with av.open(str(path)) as container:
            promised = container.streams.video[0].frames
        n_frames = sum(1 for _ in decoded())
        if not n_frames or n_frames < promised / 2:
            raise DataError(f"{path}: is damaged: {n_frames} of {promised or 'its'} frames can be decoded")
        wanted = _middles(n_frames, n)
        found = {
            number: frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
            for number, frame in enumerate(decoded())
            if number in wanted
        }
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path}: cannot be decoded ({getattr(error, 'strerror', None) or 'no video in it'})") from None
    return np.stack([found[number] for number in wanted])
