"""codesign data: what there is, fetching it, and what a search says where data are missing."""

import hashlib
import json
import warnings
import zipfile
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest

from codesign import tasks
from codesign.cli.main import main
from codesign.design import TaskShape
from codesign.tasks import Splits
from codesign.tasks.language import BITS_PER_CHARACTER, LanguageTask, next_symbol
from codesign.tasks.packages import Package, keep
from codesign.tasks.task import Metric

TEXT = b"to be or not to be, that is the question. " * 60


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task `letters` whose text lies in a wheel, which is returned; the cache is empty."""
    wheel = tmp_path / "letters_of_w-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("letters_of_w/data/letters.txt", TEXT)
        archive.writestr("letters_of_w/__init__.py", "raise SystemExit('nobody runs this')")
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    package_ = Package("pypi", "letters-of-w", "1.0", digest, len(content), keep("/data/letters.txt"))

    class Letters(LanguageTask):
        name: Literal["letters"] = "letters"
        summary: ClassVar[str] = "letters"
        source: ClassVar[str] = "PyPI package letters-of-w 1.0"
        licence: ClassVar[str] = "public domain"
        package: ClassVar[Package | None] = package_

        @property
        def metric(self) -> Metric:
            return BITS_PER_CHARACTER

        @property
        def shape(self) -> TaskShape:
            return TaskShape(128, 128, tokens=True)

        def splits(self) -> Splits:
            text = np.frombuffer(package_.read("letters.txt"), np.uint8)
            return Splits(next_symbol(text[:-800]), next_symbol(text[-800:-400]), next_symbol(text[-400:]))

        def checksum(self) -> str:
            return package_.manifest()["files"]["letters.txt"]

    monkeypatch.setitem(tasks.TASKS, "letters", Letters)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    return wheel


def test_the_list_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(tasks.TASKS)
    for row in rows.values():
        assert row.keys() >= {"name", "metric", "size_bytes", "source", "licence", "citation", "present"}
        assert row["size_bytes"] > 100_000 and row["metric"] and row["source"] and row["licence"]
    assert rows["ru_phones"]["present"] is True
    assert "motion" in rows["moving_fashion"]["synthetic"] and not rows["fashion_rows"]["synthetic"]
    assert main(["data", "list"]) == 0
    assert "synthetic" in capsys.readouterr().out


def test_fetched_data_are_present_and_fetched_once(letters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not tasks.find("letters").package.present
    assert main(["data", "fetch", "letters", "--from", str(letters.parent)]) == 0
    assert tasks.find("letters").package.present
    assert "public domain" in capsys.readouterr().err
    assert main(["data", "fetch", "letters", "--from", str(letters)]) == 0
    assert "here already" in capsys.readouterr().err


def test_damaged_data_can_be_fetched_again(letters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = tasks.find("letters")
    assert main(["data", "fetch", "letters", "--from", str(letters)]) == 0
    kept = task.package.folder / "letters.txt"
    kept.write_bytes(b"something else")
    assert main(["data", "fetch", "letters", "--from", str(letters)]) == 0
    assert kept.read_bytes() == TEXT


def test_shipped_data_need_no_fetching(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "ru_phones"]) == 0
    assert "here already" in capsys.readouterr().err


def test_nobody_to_ask_means_an_error_and_no_download(letters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "letters"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "codesign: letters: nobody can be asked here; add --yes"
    assert not tasks.find("letters").package.present


def test_an_unknown_task_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "haptt"]) == 1
    assert capsys.readouterr().err.startswith("codesign: task.name: unknown task 'haptt'; did you mean 'hapt'?")


SPACE = """
task = "letters"
[network]
hidden = 8
embedding = [0, 4]
activation_function = "piecewise_linear"
[recipe]
epochs = 1
sequence_length = 20
[accelerator]
n_pe = [4, 8]
[search]
objectives = ["error", "latency_s"]
trials = 2
confirm_seeds = 1
"""


def test_a_search_without_data_says_what_to_do(
    letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letters.toml").write_text(SPACE)
    arguments = ["search", str(tmp_path / "letters.toml"), "--to", str(tmp_path / "results")]
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("codesign: letters: its data") and line.endswith("run `codesign data fetch letters`")
    assert not (tmp_path / "results").exists()


def test_a_language_model_is_searched_shown_and_exported(
    letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way with another metric than a share: bits per character in table, plot and report."""
    (tmp_path / "letters.toml").write_text(SPACE)
    results = str(tmp_path / "results")
    assert main(["data", "fetch", "letters", "--from", str(letters)]) == 0
    assert main(["search", str(tmp_path / "letters.toml"), "--to", results]) == 0
    out = capsys.readouterr().out
    assert "val bit/char" in out and "%" not in out.splitlines()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's first import
        assert main(["front", results, "--plot", str(tmp_path / "front.png")]) == 0
    assert main(["report", results]) == 0
    page = (tmp_path / "results" / "report.html").read_text()
    assert "val bit/char" in page and "bits per character" in page and "letters-of-w 1.0" in page
    assert "validation bit" in page and "validation error, %" not in page
    assert main(["export", results, "--best", "error", "--to", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "design.toml").read_text()
    assert 'name = "letters"' in text and "letters-of-w 1.0" in text
    import codesign
    from codesign import training

    model, content = codesign.load_export(tmp_path / "out")
    again = training.evaluate(model, content.task, "validation").metrics
    assert again == content.metrics["validation"]
