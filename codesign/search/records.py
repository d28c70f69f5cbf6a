"""What a study knows, in tables of our own beside Optuna's in the same database.

Optuna proposes; these tables remember: trials with their designs and costs, trainings by network and
seed, and what the study is (space, fingerprint, environment, reference point). Every write is one
transaction, so that a process may die at any moment. Reading them needs neither Optuna nor jax.
"""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from codesign.errors import StudyError

BUSY_TIMEOUT_S = 60  # another process (a viewer, say) may hold the database for a moment

_METADATA = sql.MetaData()
_STUDY = sql.Table(
    "codesign_study",
    _METADATA,
    sql.Column("key", sql.String(64), primary_key=True),
    sql.Column("value", sql.JSON, nullable=False),
)
_TRIALS = sql.Table(
    "codesign_trials",
    _METADATA,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("design", sql.JSON, nullable=False),
    sql.Column("recipe", sql.JSON, nullable=False),
    sql.Column("network_key", sql.String(16), nullable=False),
    sql.Column("reasons", sql.JSON, nullable=False),
    sql.Column("cost", sql.JSON, nullable=False),
)
_TRAININGS = sql.Table(
    "codesign_trainings",
    _METADATA,
    sql.Column("network_key", sql.String(16), primary_key=True),
    sql.Column("seed", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("metrics", sql.JSON, nullable=False),
    sql.Column("activity", sql.JSON, nullable=False),
    sql.Column("losses", sql.JSON, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("test_metrics", sql.JSON, nullable=True),
)

PROPOSED, REFUSED, TRAINED, FAILED = "proposed", "refused", "trained", "failed"


@dataclass(frozen=True)
class TrialRecord:
    """A proposed design and what became of it.

    Attributes:
        number: Optuna's.
        state: proposed (being trained), refused (cannot run or breaks a limit), trained, failed.
        design, recipe: plain data of the records of those names.
        network_key: what its training depends on; trials that share it share the training.
        reasons: why it was refused or failed, a sentence each.
        cost: figures of one step; of the worst case until it is trained.
    """

    number: int
    state: str
    design: dict[str, Any]
    recipe: dict[str, Any]
    network_key: str
    reasons: list[str]
    cost: dict[str, float | int | None]


@dataclass(frozen=True)
class TrainingRecord:
    """One network trained with one seed; `test_metrics` stays None until the front is confirmed."""

    network_key: str
    seed: int
    metrics: dict[str, float]
    activity: list[dict[str, dict[str, list[float]]]]
    losses: list[float]
    seconds: float
    test_metrics: dict[str, float] | None


class Records:
    """The tables of one study folder.

    Args:
        folder: results folder; the database is its study.db.
        create: make the tables if they are missing.

    Raises:
        StudyError: if there is no study, or its database cannot be used.
    """

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.path = folder / "study.db"
        if not create and not self.path.exists():
            raise StudyError(f"{folder}: holds no study (no study.db); name the folder that a search wrote")
        if not create and not os.access(folder, os.W_OK):
            self.path = self._copy()
        self.engine = sql.create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT_S})
        with self._guard(), self.engine.begin() as connection:
            if create:
                connection.execute(sql.text("PRAGMA journal_mode=WAL"))
                _METADATA.create_all(connection)
            elif not sql.inspect(connection).has_table(_STUDY.name):
                raise StudyError(f"{self.path}: is not a study of codesign; name the folder that a search wrote")

    @property
    def url(self) -> str:
        """Address of the database for SQLAlchemy and Optuna."""
        return f"sqlite:///{self.path}"

    def _copy(self) -> Path:
        """A copy to read from: SQLite needs to write beside a database in WAL mode, even to read it."""
        folder = tempfile.mkdtemp(prefix="codesign-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for file in self.path.parent.glob("study.db*"):
            shutil.copy(file, folder)
        return Path(folder) / self.path.name

    def get(self, key: str) -> Any:
        """A fact about the study, or None."""
        with self._guard(), self.engine.connect() as connection:
            return connection.scalar(sql.select(_STUDY.c.value).where(_STUDY.c.key == key))

    def set(self, key: str, value: Any) -> None:
        """Remember a fact about the study."""
        self._replace(_STUDY, {"key": key, "value": value})

    def trials(self) -> list[TrialRecord]:
        """All trials by number."""
        return [TrialRecord(**row) for row in self._rows(sql.select(_TRIALS).order_by(_TRIALS.c.number))]

    def put_trial(self, record: TrialRecord) -> None:
        """Write a trial, over what was known of it."""
        self._replace(_TRIALS, vars(record))

    def trainings(self) -> dict[tuple[str, int], TrainingRecord]:
        """All trainings by network key and seed."""
        rows = self._rows(sql.select(_TRAININGS))
        return {(row["network_key"], row["seed"]): TrainingRecord(**row) for row in rows}

    def put_training(self, record: TrainingRecord) -> None:
        """Write a training, over what was known of it."""
        self._replace(_TRAININGS, vars(record))

    def _rows(self, query: sql.Select[Any]) -> list[dict[str, Any]]:
        with self._guard(), self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _replace(self, table: sql.Table, row: dict[str, Any]) -> None:
        key = sql.and_(*(column == row[column.name] for column in table.primary_key))
        with self._guard(), self.engine.begin() as connection:
            connection.execute(sql.delete(table).where(key))
            connection.execute(sql.insert(table).values(row))

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Database faults as one line that says what is kept."""
        try:
            yield
        except (sql.exc.DatabaseError, json.JSONDecodeError) as error:
            raise database_fault(self.path, error) from error


def database_fault(path: Path, error: Exception) -> StudyError:
    """The line for a database that cannot be used."""
    cause = str(getattr(error, "orig", error)).splitlines()[0]
    return StudyError(f"{path}: {cause}; what was written before is kept, run the same command again once it is mended")
