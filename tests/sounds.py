"""Sound files written by hand, byte for byte, so that no library both writes and reads them."""

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def noise(seconds: float, seed: int = 0, rate_hz: int = 16_000) -> NDArray[np.int16]:
    """Noise whose loudness changes, 16-bit samples."""
    n = round(seconds * rate_hz)
    loud = 2_000.0 + 1_500.0 * np.sin(np.arange(n) * 40.0 / rate_hz + seed)
    return np.asarray(np.random.default_rng(seed).normal(size=n) * loud, np.int16)


def write_riff(path: Path, samples: NDArray[np.int16], rate_hz: int = 16_000, channels: int = 1) -> None:
    """A RIFF file (.wav); samples of several channels take turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def write_sphere(
    path: Path, samples: NDArray[np.int16], byte_format: str = "01", coding: str = "", rate_hz: int = 16_000
) -> None:
    """A NIST SPHERE file with the header fields of TIMIT; "01" is little-endian, "10" big-endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [
        "NIST_1A",
        "   1024",
        "database_id -s5 TIMIT",
        "database_version -s3 1.0",
        "utterance_id -s8 cjf0_si1",
        "channel_count -i 1",
        f"sample_count -i {len(samples)}",
        f"sample_rate -i {rate_hz}",
        f"sample_min -i {samples.min()}",
        f"sample_max -i {samples.max()}",
        "sample_n_bytes -i 2",
        f"sample_byte_format -s2 {byte_format}",
        "sample_sig_bits -i 16",
        *([f"sample_coding -s{len(coding)} {coding}"] if coding else []),
        "end_head",
    ]
    order = {"01": "<i2", "10": ">i2"}[byte_format]
    path.write_bytes(("\n".join(fields) + "\n").encode().ljust(1024) + samples.astype(order).tobytes())
