"""Moving garments: what moves where in a clip, what a single frame tells, and the splits of the real images."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.design import TaskShape
from codesign.tasks import moving_fashion
from codesign.tasks.images import FASHION, fashion
from codesign.tasks.moving_fashion import DIRECTIONS, SPEEDS, MovingFashion, clips

SOLID = np.full((32, 28, 28), 255, np.uint8)


def plain(monkeypatch: pytest.MonkeyPatch, **constants: object) -> None:
    """No noise, no shake, no bar, one contrast; but for the constants given."""
    usual = {"NOISE": 0.0, "SHAKE": 0.0, "BAR": (0, 0), "CONTRAST": (100, 100)}
    for name, value in {**usual, **constants}.items():
        monkeypatch.setattr(moving_fashion, name, value)


def films(x: NDArray[np.int8]) -> NDArray[np.int16]:
    """Differences (n, 6, rows, columns, colours) in brightness."""
    return 2 * x.astype(np.int16).reshape(len(x), 6, 120, 160, 3)


def test_clips_have_their_form_and_all_classes_alike() -> None:
    x, label = clips(SOLID, 0, 32)
    assert x.dtype == np.int8 and x.shape == (32, 6, 57_600)
    assert np.bincount(label).tolist() == [2] * 16
    assert MovingFashion().shape == TaskShape(57_600, 16)


def test_a_garment_moves_the_way_and_at_the_speed_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch)
    x, label = clips(SOLID, 3, 32)
    for film, number in zip(films(x), label, strict=True):
        # A square of 56 x 56 that moves by d moves the moment of the brightness by 56 * 56 * 100 * d.
        down = np.einsum("trck,r->tk", film, np.arange(120)) / (56 * 56 * 100)
        right = np.einsum("trck,c->tk", film, np.arange(160)) / (56 * 56 * 100)
        assert np.ptp(down, axis=1).max() == np.ptp(right, axis=1).max() == 0.0
        direction = np.array(DIRECTIONS[number % 8])
        step = SPEEDS[number // 8] * direction / np.linalg.norm(direction)
        moved = np.stack([down[:, 0], right[:, 0]], axis=1)
        assert np.abs(moved - step).max() <= 1.0
        assert np.abs(moved.sum(0) - 6 * step).max() <= 1.0


def test_what_moves_is_the_garment_at_twice_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch, SPEEDS=(60.0, 60.0), DIRECTIONS=((0, 1),) * 8, MIDDLE_REACH=(0.0, 0.0), N_FRAMES=2)
    garment = np.zeros((16, 28, 28), np.uint8)
    garment[:, 3, 5], garment[:, 20, 27] = 255, 51
    x, _ = clips(garment, 0, 16)
    expected = np.zeros((120, 160, 3))
    top, left = (120 - 56) // 2, (160 - 56) // 2
    for sign, shift in ((-1, -30), (1, 30)):
        for row, column, brightness in ((3, 5, 100), (20, 27, 20)):
            down, right = top + 2 * row, left + shift + 2 * column
            expected[down : down + 2, right : right + 2] += sign * brightness
    for one in x:
        np.testing.assert_array_equal(2.0 * one.reshape(120, 160, 3), expected)


def test_the_middle_frame_says_nothing_of_the_class() -> None:
    labels = np.arange(1600) % 16, np.arange(1600) % 16 // 2
    first, second = (moving_fashion._paths(np.random.default_rng(0), label) for label in labels)
    np.testing.assert_array_equal(first[:, 3], second[:, 3])
    assert (first[:, 0] != second[:, 0]).any(axis=1).mean() > 0.8


def test_a_garment_never_leaves_the_canvas() -> None:
    corner = moving_fashion._paths(np.random.default_rng(0), np.arange(160_000) % 16)
    assert corner.min(axis=(0, 1)).tolist() == [0, 10]
    assert corner.max(axis=(0, 1)).tolist() == [64, 94]


def test_frames_are_shaken(monkeypatch: pytest.MonkeyPatch) -> None:
    still = np.zeros(4000, np.int64)
    monkeypatch.setattr(moving_fashion, "SPEEDS", (0.0,))
    moved = np.diff(moving_fashion._paths(np.random.default_rng(0), still), axis=1)
    assert set(np.unique(moved)) >= {-1, 0, 1} and np.abs(moved).max() <= 2
    monkeypatch.setattr(moving_fashion, "SHAKE", 0.0)
    assert not np.diff(moving_fashion._paths(np.random.default_rng(0), still), axis=1).any()


def test_a_bar_hides_what_moves_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch)
    shown = np.abs(films(clips(SOLID, 0, 32)[0])).sum(axis=(1, 4)) > 0
    assert shown.any(axis=(1, 2)).all()
    plain(monkeypatch, BAR=(40, 40))
    hidden = shown & (np.abs(films(clips(SOLID, 0, 32)[0])).sum(axis=(1, 4)) == 0)
    rows, columns = hidden.any(axis=2).sum(axis=1), hidden.any(axis=1).sum(axis=1)
    assert hidden.any(axis=(1, 2)).mean() > 0.8
    assert (np.minimum(rows, columns) <= 40).all()
    assert (rows > 40).any() and (columns > 40).any()


def test_every_frame_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch, NOISE=6.0, CONTRAST=(0, 0), BACKGROUND=(100, 100))
    x, _ = clips(SOLID, 0, 4)
    difference = 2.0 * x
    assert difference.std() == pytest.approx(6.0 * np.sqrt(2.0), rel=0.03)
    between = [np.corrcoef(one[a], one[b])[0, 1] for one in difference for a, b in ((0, 1), (0, 2), (1, 4))]
    np.testing.assert_allclose(between, [-0.5, 0.0, 0.0] * 4, atol=0.03)


def test_brightness_ends_at_black_and_white(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch, CONTRAST=(200, 200), BACKGROUND=(150, 150))
    assert films(clips(SOLID, 0, 16)[0]).max() == 104  # 255 - 150, halved and doubled


def test_the_first_clips_do_not_depend_on_how_many_are_kept() -> None:
    (few, some), (all_of_them, every) = clips(SOLID, 1, 5), clips(SOLID, 1, 32)
    np.testing.assert_array_equal(few, all_of_them[:5])
    np.testing.assert_array_equal(some, every[:5])
    assert not np.array_equal(few, clips(SOLID, 2, 5)[0])


def test_clips_are_those_of_the_version() -> None:
    """If this fails on purpose, raise VERSION, so that no result is taken for one on other clips."""
    garments = (np.arange(16 * 28 * 28) % 251).astype(np.uint8).reshape(16, 28, 28)
    x, label = clips(garments, 0, 16)
    assert moving_fashion.VERSION == 1
    assert hashlib.sha256(x.tobytes() + label.astype("u1").tobytes()).hexdigest()[:16] == "e3e03fd6281e5db1"


def test_the_version_is_part_of_the_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    before = MovingFashion().checksum()
    assert before != FASHION.sha256
    monkeypatch.setattr(moving_fashion, "VERSION", 2)
    assert MovingFashion().checksum() != before


def test_it_says_that_it_is_synthetic() -> None:
    assert MovingFashion().label == "moving_fashion full (synthetic: motion of real images)"
    assert "synthetic" in MovingFashion.summary


needs_images = pytest.mark.skipif(
    not FASHION.present, reason="data of moving_fashion are not fetched; run codesign data fetch moving_fashion"
)


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Clips are made again, before and after."""
    moving_fashion._splits.cache_clear()
    yield
    moving_fashion._splits.cache_clear()


@needs_images
@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(("subset", "sizes"), [("full", [1600, 400, 400]), ("mini", [400, 100, 400])])
def test_no_image_moves_in_two_splits(subset: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def recorded(garments: NDArray[np.uint8], seed: int, n_kept: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        seen.append((garments, seed, n_kept))
        return np.zeros((n_kept, 6, 1), np.int8), np.arange(n_kept) % 16

    monkeypatch.setattr(moving_fashion, "clips", recorded)
    MovingFashion.model_validate({"subset": subset}).splits()
    train, test = fashion()
    expected = train.pixels[:1600], train.pixels[55_000:55_400], test.pixels[:400]
    for (garments, _, _), images in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(garments, images)
    assert len({seed for _, seed, _ in seen}) == 3
    assert [n_kept for _, _, n_kept in seen] == sizes


@needs_images
@pytest.mark.usefixtures("no_cache")
def test_real_images_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving_fashion, "N_CLIPS", {"full": (32, 16, 16), "mini": (20, 16, 16)})
    splits = MovingFashion(subset="mini").splits()
    for part, n in ((splits.train, 20), (splits.validation, 16), (splits.test, 16)):
        assert part.x.shape == (n, 6, 57_600)
        assert part.mask[:, -1].all() and not part.mask[:, :-1].any()
    train, _ = fashion()
    x, label = clips(train.pixels[:32], 0, 20)
    np.testing.assert_array_equal(splits.train.x, x)
    np.testing.assert_array_equal(splits.train.y[:, -1], label)
