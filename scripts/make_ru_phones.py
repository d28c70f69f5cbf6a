"""Make codesign/tasks/data/ru_phones.npz from the Debian package festvox-ru.

    apt-get download festvox-ru && dpkg-deb -x festvox-ru_*.deb festvox
    python scripts/make_ru_phones.py festvox codesign/tasks/data/ru_phones.npz

The package holds 620 read Russian sentences of one speaker (99.5 minutes, 16 kHz) with phone
labels. Each sentence becomes 13 mel-frequency cepstral coefficients every 10 ms, z-scored by the
statistics of the 500 training sentences and stored as int8 in units of 1/32 standard deviation,
beside one phone number a frame. The archive is written with fixed time stamps, so the same input
gives the same bytes. Licence and author of the recordings: codesign/tasks/data/LICENSE.ru_phones.
"""

import hashlib
import io
import math
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np

VOICE = "usr/share/festival/voices/russian/msu_ru_nsh_clunits"
SAMPLE_RATE_HZ = 16_000
HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
N_FFT = 512
N_MEL = 26
N_CEPSTRA = 13
LOWEST_HZ, HIGHEST_HZ = 20.0, 8_000.0
PREEMPHASIS = 0.97
N_TRAIN = 500  # sentences whose statistics define the z-score
LEVELS_PER_SIGMA = 32  # int8 covers -4 to +4 standard deviations


def mel_filters() -> np.ndarray:
    """Triangular filters, equally spaced in mel (2595 log10(1 + f/700)): (N_MEL, N_FFT/2 + 1)."""

    def mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    edges_mel = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), N_MEL + 2)
    edges = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE_HZ / N_FFT
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


def dct_matrix() -> np.ndarray:
    """Orthonormal DCT-II, the first N_CEPSTRA rows: (N_CEPSTRA, N_MEL)."""
    k, n = np.arange(N_CEPSTRA)[:, None], np.arange(N_MEL)[None, :]
    matrix = np.sqrt(2.0 / N_MEL) * np.cos(np.pi * k * (n + 0.5) / N_MEL)
    matrix[0] /= np.sqrt(2.0)
    return np.asarray(matrix)


def mfcc(signal: np.ndarray) -> np.ndarray:
    """Cepstra of a signal in [-1, 1): (n_frames, N_CEPSTRA); frame n is centred on n*HOP + WINDOW/2."""
    signal = np.append(signal[0], signal[1:] - PREEMPHASIS * signal[:-1])
    n_frames = 1 + (len(signal) - WINDOW) // HOP
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP][:n_frames]
    spectrum = np.abs(np.fft.rfft(frames * np.hamming(WINDOW), N_FFT)) ** 2
    return np.asarray(np.log(np.maximum(spectrum @ mel_filters().T, 1e-10)) @ dct_matrix().T)


def read_sentence(voice: Path, name: str) -> tuple[np.ndarray, list[str]]:
    """Cepstra (n_frames, N_CEPSTRA) and the phone of each frame."""
    with wave.open(str(voice / "wav" / f"{name}.wav")) as sound:
        if (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) != (SAMPLE_RATE_HZ, 1, 2):
            raise SystemExit(f"{name}.wav: expected 16 kHz, mono, 16 bit")
        signal = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768.0
    rows = [line.split() for line in (voice / "lab" / f"{name}.lab").read_text().splitlines()]
    rows = [row for row in rows if len(row) == 3]  # "END_SECONDS 125 PHONE"
    ends, phones = np.array([float(row[0]) for row in rows]), [row[2] for row in rows]
    cepstra = mfcc(signal)
    centres_s = (np.arange(len(cepstra)) * HOP + WINDOW / 2) / SAMPLE_RATE_HZ
    segment = np.minimum(np.searchsorted(ends, centres_s), len(phones) - 1)
    return cepstra, [phones[s] for s in segment]


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Like numpy.savez_compressed, with the same bytes at every run."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())


def main(package: str, output: str) -> None:
    """Read the unpacked package, write the archive, print its checksum."""
    voice = Path(package) / VOICE
    names = sorted(path.stem for path in (voice / "lab").glob("ru_*.lab"))
    sentences = [read_sentence(voice, name) for name in names]
    train = np.concatenate([cepstra for cepstra, _ in sentences[:N_TRAIN]])
    mean, sigma = train.mean(0), train.std(0)
    phones = sorted({phone for _, labels in sentences for phone in labels})
    number = {phone: i for i, phone in enumerate(phones)}
    levels = np.concatenate([(c - mean) / sigma * LEVELS_PER_SIGMA for c, _ in sentences])
    write_npz(
        Path(output),
        {
            "cepstra": np.clip(np.round(levels), -128, 127).astype(np.int8),
            "phone": np.array([number[p] for _, labels in sentences for p in labels], np.uint8),
            "length": np.array([len(c) for c, _ in sentences], np.int32),
            "phones": np.array(phones),
            "mean": mean.astype(np.float32),
            "sigma": sigma.astype(np.float32),
        },
    )
    digest = hashlib.sha256(Path(output).read_bytes()).hexdigest()
    print(f"{len(names)} sentences, {len(levels)} frames, {len(phones)} phones, sha256 {digest}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
