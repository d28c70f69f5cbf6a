"""Speech features: sound as it was written, cepstra as Kaldi defines them, their differences and scale."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.errors import DataError
from codesign.tasks import audio
from codesign.tasks.audio import Scaling, Sound, centres_s, cepstra, differences, read_sound, with_differences
from codesign.tasks.classification import scaled
from tests.sounds import noise, write_riff, write_sphere

soundfile = pytest.importorskip("soundfile", reason="needs the extra `audio`")
pytest.importorskip("kaldi_native_fbank", reason="needs the extra `audio`")


def sound(seconds: float = 0.5, rate_hz: int = 16_000, seed: int = 0) -> Sound:
    return Sound(noise(seconds, seed, rate_hz).astype(np.float32) / 32768, rate_hz)


def kaldi(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """The recipe that `cepstra` documents, written out step by step."""
    window, hop, n_bands = rate_hz * 25 // 1000, rate_hz // 100, 23
    n_fft = 1 << (window - 1).bit_length()

    def mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

    edges = np.linspace(mel(20.0), mel(rate_hz / 2), n_bands + 2)
    position = mel(np.arange(n_fft // 2) * rate_hz / n_fft)
    rising = (position - edges[:-2, None]) / np.diff(edges[:-1])[:, None]
    falling = (edges[2:, None] - position) / np.diff(edges[1:])[:, None]
    bands = np.maximum(0.0, np.minimum(rising, falling))
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))) ** 0.85
    order, band = np.arange(13)[:, None], np.arange(n_bands)
    cosines = np.sqrt(2 / n_bands) * np.cos(np.pi * order * (band + 0.5) / n_bands)
    cosines[0] /= np.sqrt(2)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    rows = []
    for begin in range(0, len(samples) - window + 1, hop):
        frame = samples[begin : begin + window].astype(np.float64) * 32768
        frame -= frame.mean()
        frame = (frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])) * povey
        power = np.abs(np.fft.rfft(frame, n_fft)[:-1]) ** 2
        rows.append(lifter * (cosines @ np.log(bands @ power)))
    return np.array(rows)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050])
def test_cepstra_are_those_of_kaldi(rate_hz: int) -> None:
    one = sound(0.4, rate_hz)
    found = cepstra(one)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, kaldi(one.samples, rate_hz), atol=0.02)


def test_the_same_sound_has_the_same_cepstra_to_the_last_bit() -> None:
    np.testing.assert_array_equal(cepstra(sound()), cepstra(sound()))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_centres_are_in_the_middle_of_the_frames(rate_hz: int) -> None:
    one = sound(1.0, rate_hz)
    n = len(cepstra(one))
    centres = centres_s(n, rate_hz)
    assert n == 98
    assert centres[0] == pytest.approx(0.0125, abs=1 / rate_hz)
    assert np.diff(centres) == pytest.approx(0.01, abs=1 / rate_hz)
    half_a_window = (rate_hz * 25 // 1000) / 2 / rate_hz
    assert centres[-1] + half_a_window <= 1.0 < centres[-1] + half_a_window + 0.01


def test_a_click_is_in_the_frames_around_it() -> None:
    samples = np.zeros(16_000, np.float32)
    samples[8_000] = 0.9
    loud = np.flatnonzero(cepstra(Sound(samples, 16_000))[:, 0] > 0)
    assert (np.abs(centres_s(98, 16_000)[loud] - 0.5) <= 0.0125).all()
    assert 2 <= len(loud) <= 3


def test_differences_by_hand() -> None:
    by_hand = [
        [(1 * (0 - 0) + 2 * (1 - 0)) / 10],
        [(1 * (1 - 0) + 2 * (4 - 0)) / 10],
        [(1 * (4 - 0) + 2 * (9 - 0)) / 10],
    ]
    squares = np.array([[0.0], [0.0], [1.0], [4.0], [9.0], [9.0]], np.float32)
    np.testing.assert_allclose(differences(squares)[:3], by_hand, rtol=1e-6)


def test_features_are_cepstra_and_two_differences() -> None:
    one = cepstra(sound())
    features = with_differences(one)
    assert features.shape == (len(one), audio.N_FEATURES) == (48, 39)
    np.testing.assert_array_equal(features[:, :13], one)
    np.testing.assert_array_equal(features[:, 13:26], differences(one))
    np.testing.assert_array_equal(features[:, 26:], differences(differences(one)))


def test_four_deviations_of_the_training_frames_fill_the_range() -> None:
    rng = np.random.default_rng(1)
    train = [rng.normal([5.0, -2.0], [3.0, 0.1], (n, 2)).astype(np.float32) for n in (400, 700)]
    other = rng.normal([5.0, -2.0], [6.0, 0.4], (500, 2)).astype(np.float32)
    levels = Scaling.of(train).levels(other)
    assert levels.dtype == np.int8
    assert (levels.min(), levels.max()) == (-128, 127)
    expected = scaled(np.concatenate(train)[None], other[None])[1][0]
    np.testing.assert_allclose(levels / 128, expected, atol=0.5 / 128 + 1e-6)


def test_a_feature_that_never_changes_is_no_division_by_zero() -> None:
    constant = np.full((10, 1), 3.0, np.float32)
    assert not Scaling.of([constant]).levels(constant).any()


@pytest.mark.parametrize("write", [write_riff, write_sphere, lambda path, x: write_sphere(path, x, "10")])
def test_samples_are_read_as_written(tmp_path: Path, write: Callable[[Path, NDArray[np.int16]], None]) -> None:
    samples = noise(0.1)
    write(tmp_path / "x.wav", samples)
    found = read_sound(tmp_path / "x.wav")
    np.testing.assert_array_equal(found.samples * 32768, samples)
    assert (found.rate_hz, found.samples.dtype) == (16_000, np.float32)


def test_flac_is_read(tmp_path: Path) -> None:
    samples = noise(0.1, rate_hz=8_000)
    soundfile.write(tmp_path / "x.flac", samples, 8_000)
    found = read_sound(tmp_path / "x.flac")
    np.testing.assert_array_equal(found.samples * 32768, samples)
    assert found.rate_hz == 8_000


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_sound(path)
    return str(caught.value)


def test_what_is_no_sound_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    assert refused(path) == f"{path}: cannot be read (No such file or directory)"
    path.write_bytes(b"RIFF of nothing")
    assert refused(path).startswith(f"{path}: cannot be read as sound (")
    write_sphere(path, noise(0.1), coding="pcm,embedded-shorten-v2.00")
    assert refused(path) == f"{path}: is compressed with shorten; convert it with `sph2pipe -f wav` and try again"
    write_riff(path, noise(0.1), channels=2)
    assert refused(path) == f"{path}: has 2 channels, expected one"
    write_riff(path, noise(0.1), rate_hz=4_000)
    assert refused(path) == f"{path}: has 4000 samples a second, expected 8000 or more"
    write_riff(path, noise(0.1)[:399])
    assert refused(path) == f"{path}: has 399 samples, shorter than one window of 25 ms"
    write_riff(path, noise(0.1)[:400])
    assert len(cepstra(read_sound(path))) == 1


def test_a_corpus_has_one_sampling_rate(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for path, rate_hz in zip(paths, (8_000, 8_000, 16_000), strict=True):
        write_riff(path, noise(0.1), rate_hz)
    assert [sound.rate_hz for sound in audio.sounds(paths[:2])] == [8_000, 8_000]
    with pytest.raises(DataError) as caught:
        list(audio.sounds(paths))
    assert str(caught.value) == f"{paths[2]}: has 16000 samples a second, the files before it have 8000"


@pytest.mark.parametrize("library", ["soundfile", "kaldi_native_fbank"])
def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    write_riff(tmp_path / "x.wav", noise(0.1))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError) as caught:
        cepstra(read_sound(tmp_path / "x.wav"))
    assert str(caught.value) == audio.NEEDED
    assert 'pip install "codesign[audio]"' in audio.NEEDED
