"""The benchmarks start and print their tables; figures are theirs to find."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> str:
    """What `python -m benchmarks...` prints."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=900
    ).stdout


@pytest.mark.slow
def test_hardware_claims() -> None:
    out = run("benchmarks.hardware_claims", "--quick")
    assert "## Derived" in out and "## Not derivable" in out
    assert "**no**" not in out  # arrays equal one call a design
    assert "| HCGS | weight memory | 288 KiB | 288 |" in out


@pytest.mark.slow
def test_seed_claims() -> None:
    out = run("benchmarks.seed_claims", "--quick", "--only", "hcgs")
    claims, combined = out.split("## Ingredients of several systems together")
    assert claims.count("| hcgs |") == 5 and "unstructured at equal bits" in claims
    assert combined.count("| hcgs |") == 2 and "HCGS's blocks, 4 bits, ADMM" in combined
