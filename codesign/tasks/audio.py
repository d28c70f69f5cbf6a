"""Speech features: 13 mel-frequency cepstra every 10 ms and their first and second differences.

Sound is read by libsndfile (RIFF, FLAC, NIST SPHERE), cepstra are those of Kaldi (kaldi-native-fbank) without
dither, so that the same sound always gives the same features. Needs the extra `audio`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import DataError

N_CEPSTRA = 13
N_FEATURES = 3 * N_CEPSTRA
WINDOW_S, HOP_S = 0.025, 0.010
LOWEST_RATE_HZ = 8_000  # 23 mel bands need a spectrum this wide
RECIPE = 1  # raise it when the features of a sound change, so that kept ones are made again
DIFFERENCE_REACH = 2  # frames on either side that a difference looks at
INT8_UNITS = 128.0
INT16_UNITS = 32_768.0  # Kaldi's floor under the log energies is meant for samples of this size
SPHERE = b"NIST_1A"
SPHERE_HEADER_BYTES = 1_024
NEEDED = 'reading speech needs soundfile and kaldi-native-fbank; install them with `pip install "codesign[audio]"`'


@dataclass(frozen=True)
class Sound:
    """One channel of sound.

    Attributes:
        samples: (n_samples,) within [-1, 1).
        rate_hz: samples a second.
    """

    samples: NDArray[np.float32]
    rate_hz: int


def read_sound(path: Path) -> Sound:
    """A recording of one channel, at its own sampling rate.

    Raises:
        DataError: if it is missing, damaged, compressed with shorten, has several channels, fewer than 8,000
            samples a second or less than 25 ms, or if soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError:
        raise DataError(NEEDED) from None
    try:
        with path.open("rb") as file:
            header = file.read(SPHERE_HEADER_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if header.startswith(SPHERE) and b"shorten" in header:
        raise DataError(f"{path}: is compressed with shorten; convert it with `sph2pipe -f wav` and try again")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: cannot be read as sound ({error.error_string.rstrip('.')})") from None
    if samples.shape[1] != 1:
        raise DataError(f"{path}: has {samples.shape[1]} channels, expected one")
    if rate_hz < LOWEST_RATE_HZ:
        raise DataError(f"{path}: has {rate_hz} samples a second, expected {LOWEST_RATE_HZ} or more")
    if len(samples) < rate_hz * WINDOW_S:
        raise DataError(f"{path}: has {len(samples)} samples, shorter than one window of {1e3 * WINDOW_S:.0f} ms")
    return Sound(np.ascontiguousarray(samples[:, 0]), int(rate_hz))


def sounds(paths: Iterable[Path]) -> Iterator[Sound]:
    """Recordings of one corpus, one at a time.

    Raises:
        DataError: if one cannot be used (`read_sound`) or its sampling rate differs from that of the first.
    """
    rate_hz = None
    for path in paths:
        sound = read_sound(path)
        rate_hz = rate_hz or sound.rate_hz
        if sound.rate_hz != rate_hz:
            raise DataError(f"{path}: has {sound.rate_hz} samples a second, the files before it have {rate_hz}")
        yield sound


def cepstra(sound: Sound) -> NDArray[np.float32]:
    """Mel-frequency cepstra, (n_frames, 13); the first is that of order zero and not the energy.

    Kaldi's recipe: offset removed, pre-emphasis 0.97, Povey windows of 25 ms every 10 ms, 23 triangular bands
    of equal width in mel = 1127 ln(1 + f/700) from 20 Hz to half the sampling rate, log, DCT, lifter 22.
    Frame n covers the samples from n * hop on; there is none that reaches beyond the end.

    Raises:
        DataError: if kaldi-native-fbank is not installed.
    """
    try:
        import kaldi_native_fbank
    except ImportError:
        raise DataError(NEEDED) from None
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.samp_freq = sound.rate_hz
    options.frame_opts.dither = 0.0
    options.use_energy = False
    mfcc = kaldi_native_fbank.OnlineMfcc(options)
    mfcc.accept_waveform(sound.rate_hz, sound.samples * np.float32(INT16_UNITS))
    mfcc.input_finished()
    return np.stack([mfcc.get_frame(n) for n in range(mfcc.num_frames_ready)])


def centres_s(n_frames: int, rate_hz: int) -> NDArray[np.float64]:
    """Time in the middle of each frame of `cepstra`."""
    window, hop = rate_hz * 25 // 1000, rate_hz // 100
    return (np.arange(n_frames) * hop + window / 2) / rate_hz


def differences(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slope of each feature over time, (n_frames, n): least squares over five frames, the ends repeated.

    Example:
        >>> differences(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]], np.float32))[2].tolist()
        [1.0]
    """
    n, reach = len(features), DIFFERENCE_REACH
    wide = features[np.clip(np.arange(-reach, n + reach), 0, n - 1)]
    steps = range(1, reach + 1)
    slope = sum(k * (wide[reach + k :][:n] - wide[reach - k :][:n]) for k in steps)
    return np.asarray(slope / (2.0 * sum(k * k for k in steps)), np.float32)


def with_differences(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n_frames, n) beside their first and second differences, (n_frames, 3n)."""
    first = differences(features)
    return np.concatenate([features, first, differences(first)], axis=1)


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of every feature; four deviations fill [-1, 1).

    Attributes:
        mean, deviation: (n_features,).
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, utterances: Iterable[NDArray[np.float32]]) -> "Scaling":
        """Over all frames of utterances (n_frames, n_features), which need not stand in memory together.

        Example:
            >>> Scaling.of(np.array([[[0.0], [2.0]], [[4.0], [6.0]]], np.float32)).mean.tolist()
            [3.0]
        """
        n, total, squares = 0, np.float64(0.0), np.float64(0.0)
        for utterance in utterances:
            wide = utterance.astype(np.float64)
            n, total, squares = n + len(wide), total + wide.sum(0), squares + (wide**2).sum(0)
        mean = np.asarray(total / n)
        return cls(mean, np.sqrt(np.maximum(squares / n - mean**2, 1e-12)))

    def levels(self, features: NDArray[np.float32]) -> NDArray[np.int8]:
        """Features (n_frames, n_features) within [-1, 1), in units of 1/128."""
        scaled = (features - self.mean) * (INT8_UNITS / (4.0 * self.deviation))
        return np.clip(np.round(scaled), -INT8_UNITS, INT8_UNITS - 1.0).astype(np.int8)
