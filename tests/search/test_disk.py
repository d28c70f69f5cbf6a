"""Disks that are full or read-only. Root is stopped by neither mode bits nor quotas, so these tests mount
small file systems of their own, and are skipped where that is not allowed."""

import subprocess
from contextlib import contextmanager

import pytest

from codesign.errors import StudyError
from codesign.search.records import TRAINED, Records
from codesign.search.results import Results
from codesign.search.study import Study
from tests.tiny import tiny_space


@contextmanager
def mounted(path, options):
    path.mkdir(exist_ok=True)
    run = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {run.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def remount(path, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


def test_a_read_only_folder_is_one_line(tmp_path):
    with mounted(tmp_path / "disk", "ro,size=1m") as disk:
        with pytest.raises(StudyError) as caught:
            Study(tiny_space(), disk / "study")
        assert "Read-only file system; repair this, then run the same command again" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_finished_study_can_be_looked_at_where_nothing_can_be_written(tmp_path):
    study = Study(tiny_space(trials=1, confirm_seeds=1), tmp_path / "study")
    study.run()
    front = [row.as_dict() for row in study.front()]
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"):
        subprocess.run(["mount", "--bind", str(tmp_path / "study"), str(disk)], check=True)
        try:
            remount(disk, "bind,ro")
            assert [row.as_dict() for row in Results(disk).front()] == front
            with pytest.raises(StudyError, match="Read-only file system"):
                Study(tiny_space(trials=2), disk)
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_loses_no_finished_trial(tmp_path):
    with mounted(tmp_path / "disk", "size=420k") as disk:
        with pytest.raises(StudyError) as caught:
            Study(tiny_space(trials=12), disk / "study").run()
        text = str(caught.value)
        assert len(text.splitlines()) == 1
        assert "No space left on device" in text or "database or disk is full" in text
        assert "run the same command again" in text
        remount(disk, "size=32m")
        before = [trial for trial in Records(disk / "study", create=True).trials() if trial.state == TRAINED]
        study = Study(tiny_space(trials=12), disk / "study")
        study.run()
        after = {trial.number: trial for trial in study.records.trials()}
        assert sum(trial.state == TRAINED for trial in after.values()) == 12
        assert all(after[trial.number] == trial for trial in before)
