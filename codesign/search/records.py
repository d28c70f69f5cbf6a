"""What a study knows, in tables of our own beside Optuna's in the same database.

Optuna proposes; these tables remember: trials with their designs and costs, trainings by network and seed with
their rungs, who works on what, and what the study is. Every write is one transaction, so that a process may die
at any moment. Reading them needs neither Optuna nor jax. A database may hold many studies.
"""

import json
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from codesign.errors import InputError, StudyError
from codesign.search import server
from codesign.search.server import DRIVER_OPTIONS, Server, again

DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
"""Of the extra "servers"."""

BUSY_TIMEOUT_S = 60
"""How long another process may hold an SQLite database."""

CREATE_TRIES = 5
"""Processes that create a study at the same moment stumble over each other's tables; the next try finds them."""

_METADATA = sql.MetaData()


def _table(name: str, *columns: sql.Column[Any]) -> sql.Table:
    return sql.Table(name, _METADATA, sql.Column("study", sql.String(120), primary_key=True), *columns)


def _key(name: str, length: int) -> sql.Column[Any]:
    return sql.Column(name, sql.String(length), primary_key=True)


_NULL_JSON = sql.JSON(none_as_null=True)
_STUDY = _table("codesign_study", _key("key", 64), sql.Column("value", sql.JSON, nullable=False))
_TRIALS = _table(
    "codesign_trials",
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("design", sql.JSON, nullable=False),
    sql.Column("recipe", sql.JSON, nullable=False),
    sql.Column("network_key", sql.String(32), nullable=False),
    sql.Column("seed", sql.Integer, nullable=False),
    sql.Column("reasons", sql.JSON, nullable=False),
    sql.Column("cost", sql.JSON, nullable=False),
)
_TRAININGS = _table(
    "codesign_trainings",
    _key("network_key", 32),
    sql.Column("seed", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("reason", sql.Text, nullable=True),
    sql.Column("epochs", sql.Integer, nullable=False),
    sql.Column("steps", sql.Integer, nullable=False),
    sql.Column("rungs", sql.JSON, nullable=False),
    sql.Column("losses", sql.JSON, nullable=False),
    sql.Column("seconds", sql.Double, nullable=False),
    sql.Column("checkpoint", sql.String(120), nullable=True),
    sql.Column("weights", sql.String(120), nullable=True),
    sql.Column("metrics", _NULL_JSON, nullable=True),
    sql.Column("activity", _NULL_JSON, nullable=True),
    sql.Column("test_metrics", _NULL_JSON, nullable=True),
)
_LEASES = _table(
    "codesign_leases",
    _key("item", 80),
    sql.Column("owner", sql.String(160), nullable=False),
    sql.Column("beat", sql.Integer, nullable=False),
    sql.Column("deaths", sql.Integer, nullable=False),
)
_EVENTS = _table(
    "codesign_events",
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("steps", sql.Integer, nullable=False),
    sql.Column("seconds", sql.Double, nullable=False),
    sql.Column("hypervolume", sql.Double, nullable=False),
)

TRAINING, PROPOSED, REFUSED = "training", "proposed", "refused"
STOPPED, TRAINED, FAILED = "stopped", "trained", "failed"
STATES = (PROPOSED, REFUSED, STOPPED, TRAINED, FAILED)


@dataclass(frozen=True)
class TrialRecord:
    """A proposed design and what became of it.

    Attributes:
        number: Optuna's.
        state: proposed (being trained), refused (cannot run or breaks a limit), stopped (at a rung), trained, failed.
        design, recipe: plain data of the records of those names.
        network_key: what its training depends on; trials that share it share the training.
        seed: of the training that it was told of.
        reasons: why it was refused, stopped or failed, a sentence each.
        cost: figures of one step; of the worst case until it is trained.
    """

    number: int
    state: str
    design: dict[str, Any]
    recipe: dict[str, Any]
    network_key: str
    seed: int
    reasons: list[str]
    cost: dict[str, float | int | None]


@dataclass(frozen=True)
class TrainingRecord:
    """One network trained with one seed, perhaps not to the end.

    Attributes:
        network_key, seed: what was trained.
        state: training, stopped (at a rung), trained, failed.
        reason: why it was stopped or failed.
        epochs: done, those of a shared parent included.
        steps: of the optimizer, those of a shared parent not included: they stand in its own record.
        rungs: epochs and validation error of every rung reached, in order.
        losses: training means per epoch, in nats.
        seconds: spent on training, the parent's not included.
        checkpoint: names the stored state to go on from; None before the first and after the end.
        weights: names the stored weights; None until the end.
        metrics, activity: of the validation data; None until the end.
        test_metrics: None until the front is confirmed.
    """

    network_key: str
    seed: int
    state: str = TRAINING
    reason: str | None = None
    epochs: int = 0
    steps: int = 0
    rungs: tuple[tuple[int, float], ...] = ()
    losses: tuple[float, ...] = ()
    seconds: float = 0.0
    checkpoint: str | None = None
    weights: str | None = None
    metrics: dict[str, float] | None = None
    activity: list[dict[str, dict[str, list[float]]]] | None = None
    test_metrics: dict[str, float] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state != TRAINING

    @property
    def error(self) -> float:
        """Validation error of a finished training."""
        assert self.metrics is not None
        return self.metrics["error"]


@dataclass(frozen=True)
class Lease:
    """Who works on something.

    Attributes:
        item: a trial or a training, by name.
        owner: host, process and a number drawn when it started.
        beat: rises as long as the owner lives.
        deaths: owners that died over it.
    """

    item: str
    owner: str
    beat: int
    deaths: int


@dataclass(frozen=True)
class Event:
    """Where a study stood when a trial was finished.

    Attributes:
        number: counts finished trials, from 0.
        steps, seconds: spent on all trainings until then.
        hypervolume: share of the box that the front dominates.
    """

    number: int
    steps: int
    seconds: float
    hypervolume: float


class LeaseLost(Exception):
    """Somebody else has taken over what this process works on; its result is not written."""


class Storage:
    """Where the tables of a study are: SQLite in its folder, or a server.

    Args:
        folder: of results.
        url: of SQLAlchemy; None for what storage.json in the folder says, or else the folder's study.db.

    Raises:
        InputError: if the URL is none.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.file = folder / "storage.json"
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        here = f"sqlite:///{folder / 'study.db'}"
        self.url = url or known.get("storage") or here
        self.elsewhere = self.url != here
        try:
            self.parts = sql.engine.make_url(self.url)
        except (sql.exc.ArgumentError, ValueError):  # nothing of it is shown: a password may stand anywhere in it
            raise InputError(
                "--storage: must be a URL such as postgresql+psycopg://user@host/database or sqlite:////folder/file.db"
            ) from None
        if "@" in (self.parts.host or ""):
            raise InputError("--storage: write the characters @ : / of a password as %40 %3A %2F")
        self.path = Path(str(self.parts.database)) if self.parts.get_backend_name() == "sqlite" else None

    @property
    def label(self) -> str:
        """The address without its password, for messages."""
        if self.path is not None:
            return str(self.path)
        return self.parts.set(query={}).render_as_string(hide_password=True)  # drivers take a password there, too

    def remember(self) -> None:
        """Note an address outside the folder, readable by the user alone: it may hold a password."""
        if self.elsewhere:
            self.file.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
            self.file.chmod(stat.S_IRUSR | stat.S_IWUSR)
            self.file.write_text(json.dumps({"storage": self.url}, indent=1) + "\n")

    def engine_options(self) -> dict[str, Any]:
        """For SQLAlchemy, here and in Optuna; a connection that a restarted server has dropped is made again."""
        if self.path is not None:
            return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
        chosen = DRIVER_OPTIONS.get(self.parts.drivername.partition("+")[2], {})
        options = {name: value for name, value in chosen.items() if name not in self.parts.query}
        return {"pool_pre_ping": True, "connect_args": options}


class Records:
    """The tables of one study.

    Args:
        folder: of results.
        create: make the tables if they are missing.
        url: of the database, if it is not what the folder says.
        study: its name in the database; None where the database holds just one.

    Raises:
        StudyError: if there is no study, or its database cannot be used.
    """

    def __init__(self, folder: Path, create: bool = False, url: str | None = None, study: str | None = None) -> None:
        self.storage = Storage(folder, url)
        self.path = self.storage.path
        self.label = self.storage.label
        self.url = self.storage.url
        if self.path is not None and not create:
            if not self.path.exists():
                raise StudyError(f"{folder}: holds no study (no study.db); name the folder that a search wrote")
            if not os.access(folder, os.W_OK):
                self.url = f"sqlite:///{self._copy(self.path)}"
        try:
            self.engine = sql.create_engine(self.url, **self.storage.engine_options())
        except (ImportError, sql.exc.NoSuchModuleError) as error:
            backend = self.storage.parts.get_backend_name()
            if backend not in DRIVERS:
                kinds = ", ".join(f"{known}+{driver}" for known, driver in DRIVERS.items())
                raise StudyError(f"{self.label}: no such database or driver is installed; known: {kinds}") from None
            raise StudyError(
                f"{self.label}: needs a driver that is not installed ({getattr(error, 'name', None) or error}); write "
                f"{backend}+{DRIVERS[backend]}://... and pip install 'codesign[servers]'"
            ) from None
        weakref.finalize(self, self.engine.dispose)
        self.server = Server(self.label, lasting=self.path is None)
        self.server.watch(self.engine)
        for attempt in range(CREATE_TRIES):
            try:
                self._open(create)
                break
            except (sql.exc.OperationalError, sql.exc.ProgrammingError, sql.exc.IntegrityError) as error:
                if not create or "exist" not in str(error) or attempt == CREATE_TRIES - 1:
                    raise self.fault(error) from error
                time.sleep(0.2)
            except (sql.exc.DBAPIError, TypeError) as error:  # a TypeError: the driver knows no such option
                raise self.fault(error) from error
        self.study = study or self._only_study()
        self._trials: dict[int, TrialRecord] = {}
        self._trainings: dict[tuple[str, int], tuple[Any, TrainingRecord]] = {}

    def _open(self, create: bool) -> None:
        with self.engine.begin() as connection:
            if create:
                if self.path is not None:
                    connection.execute(sql.text("PRAGMA journal_mode=WAL"))
                _METADATA.create_all(connection)
            elif not sql.inspect(connection).has_table(_STUDY.name):
                raise StudyError(f"{self.label}: is not a study of codesign; name the folder that a search wrote")

    def _only_study(self) -> str:
        with self._guard(), self.engine.connect() as connection:
            names = list(connection.scalars(sql.select(_STUDY.c.study).distinct().order_by(_STUDY.c.study)))
        if len(names) == 1:
            return str(names[0])
        if not names:
            raise StudyError(f"{self.label}: holds no study yet; run the search first")
        raise StudyError(f"{self.label}: holds several studies, name one of {', '.join(names)} with --study")

    def _copy(self, path: Path) -> Path:
        """A copy to read from: SQLite needs to write beside a database in WAL mode, even to read it."""
        folder = tempfile.mkdtemp(prefix="codesign-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for file in path.parent.glob("study.db*"):
            shutil.copy(file, folder)
        return Path(folder) / path.name

    @again
    def get(self, key: str) -> Any:
        """A fact about the study, or None."""
        query = sql.select(_STUDY.c.value).where(_STUDY.c.study == self.study, _STUDY.c.key == key)
        with self._guard(), self.engine.connect() as connection:
            return connection.scalar(query)

    @again
    def set(self, key: str, value: Any) -> None:
        """Remember a fact about the study."""
        with self._write() as connection:
            self._put(connection, _STUDY, {"key": key, "value": value})

    @again
    def settle(self, key: str, value: Any) -> Any:
        """A fact that the first process to know it decides for all: what holds now."""
        with self._guard():
            try:
                with self.engine.begin() as connection:
                    connection.execute(sql.insert(_STUDY).values(study=self.study, key=key, value=value))
            except sql.exc.IntegrityError:
                pass
        return self.get(key)

    def trials(self, state: str | None = None, network_key: str | None = None) -> list[TrialRecord]:
        """Trials by number, all or those of a state or a network; only what has changed since the last look is read
        in full."""
        wanted = {_TRIALS.c.state: state, _TRIALS.c.network_key: network_key}
        where = [column == value for column, value in wanted.items() if value is not None]
        seen = self._tuples([_TRIALS.c.number, _TRIALS.c.state], _TRIALS.c.number, *where)
        known = self._trials
        new = [number for number, state in seen if number not in known or known[number].state != state]
        for numbers in _portions(new):
            for row in self._rows(_TRIALS, _TRIALS.c.number, _TRIALS.c.number.in_(numbers)):
                known[row["number"]] = TrialRecord(**row)
        return [known[number] for number, _ in seen]

    @again
    def state(self, number: int) -> str | None:
        """A trial's state, or None before it is written down."""
        here = (_TRIALS.c.study == self.study, _TRIALS.c.number == number)
        with self._guard(), self.engine.connect() as connection:
            return connection.scalar(sql.select(_TRIALS.c.state).where(*here))

    @again
    def put_trial(self, record: TrialRecord, owner: str | None = None) -> None:
        """Write a trial, over what was known of it.

        Args:
            owner: who must hold the trial's lease.

        Raises:
            LeaseLost: if the lease belongs to somebody else by now.
        """
        with self._write() as connection:
            self._require(connection, trial_item(record.number), owner)
            self._put(connection, _TRIALS, vars(record))

    @again
    def count_trials(self) -> dict[str, int]:
        """Trials by state."""
        query = sql.select(_TRIALS.c.state, sql.func.count()).where(_TRIALS.c.study == self.study)
        with self._guard(), self.engine.connect() as connection:
            found = {str(state): int(n) for state, n in connection.execute(query.group_by(_TRIALS.c.state))}
        return {state: found.get(state, 0) for state in STATES}

    def trainings(self) -> dict[tuple[str, int], TrainingRecord]:
        """All trainings by network key and seed; only those that have changed since the last look are read in full."""
        table = _TRAININGS.c
        tested = table.test_metrics.is_not(None).label("tested")
        marks = [table.state, table.epochs, table.checkpoint, table.weights, tested]
        found, new = {}, []
        for network_key, seed, *mark in self._tuples([table.network_key, table.seed, *marks], table.network_key):
            key = network_key, seed
            if key not in self._trainings or self._trainings[key][0] != mark:
                new.append((key, mark))
            found[key] = mark
        for portion in _portions(new):
            marked = dict(portion)
            keys = sorted({key for key, _ in marked})
            for row in self._rows(_TRAININGS, table.network_key, table.network_key.in_(keys)):
                record = _training(row)
                key = record.network_key, record.seed
                if key in marked:
                    self._trainings[key] = marked[key], record
        return {key: self._trainings[key][1] for key in found if key in self._trainings}

    def training(self, network_key: str, seed: int) -> TrainingRecord | None:
        """One training, or None before it began."""
        rows = self._rows(
            _TRAININGS, _TRAININGS.c.seed, _TRAININGS.c.network_key == network_key, _TRAININGS.c.seed == seed
        )
        return _training(rows[0]) if rows else None

    @again
    def put_training(self, record: TrainingRecord, owner: str | None = None) -> None:
        """Write a training, over what was known of it; `owner` must hold its lease.

        Raises:
            LeaseLost: if the lease belongs to somebody else by now.
        """
        with self._write() as connection:
            self._require(connection, training_item(record.network_key, record.seed), owner)
            self._put(connection, _TRAININGS, vars(record))

    @again
    def spent(self) -> tuple[int, float]:
        """Optimizer steps and seconds of all trainings."""
        columns = (sql.func.sum(_TRAININGS.c.steps), sql.func.sum(_TRAININGS.c.seconds))
        with self._guard(), self.engine.connect() as connection:
            steps, seconds = connection.execute(sql.select(*columns).where(_TRAININGS.c.study == self.study)).one()
        return int(steps or 0), float(seconds or 0.0)

    def events(self) -> list[Event]:
        """What was gained, in the order of the trials' ends."""
        return [Event(**row) for row in self._rows(_EVENTS, _EVENTS.c.number)]

    def add_event(self, hypervolume: float) -> None:
        """Note where the study stands now."""
        steps, seconds = self.spent()
        self._add_event({"steps": steps, "seconds": seconds, "hypervolume": hypervolume}, [])

    @again
    def _add_event(self, row: dict[str, float], tried: list[Event]) -> None:
        here = _EVENTS.c.study == self.study
        with self._write() as connection:
            if tried:  # cut off: it stands there if it had been committed
                columns = (_EVENTS.c.number, *(_EVENTS.c[name] for name in row))
                known = connection.execute(sql.select(*columns).where(here, _EVENTS.c.number == tried[-1].number))
                if any(Event(*found) == tried[-1] for found in known):
                    return
            number = connection.scalar(sql.select(sql.func.count()).select_from(_EVENTS).where(here))
            event = Event(int(number or 0), **row)  # type: ignore[arg-type]
            tried.append(event)
            try:
                connection.execute(sql.insert(_EVENTS).values(study=self.study, **vars(event)))
            except sql.exc.IntegrityError:  # another worker was faster, perhaps with the same figures: this is not it
                tried.clear()
                raise

    def leases(self) -> dict[str, Lease]:
        """Every lease by item."""
        return {row["item"]: Lease(**row) for row in self._rows(_LEASES, _LEASES.c.item)}

    @again
    def claim(self, item: str, owner: str, dead: Lease | None = None) -> bool:
        """Take a lease: a free one, or that of an owner who is dead, if nobody was faster."""
        here = (_LEASES.c.study == self.study, _LEASES.c.item == item)
        with self._guard():
            try:
                with self.engine.begin() as connection:
                    if dead is None:
                        row = {"study": self.study, "item": item, "owner": owner, "beat": 0, "deaths": 0}
                        connection.execute(sql.insert(_LEASES).values(row))
                        return True
                    seen = (_LEASES.c.owner == dead.owner, _LEASES.c.beat == dead.beat)
                    change = {"owner": owner, "beat": 0, "deaths": dead.deaths + 1}
                    if connection.execute(sql.update(_LEASES).where(*here, *seen).values(change)).rowcount == 1:
                        return True
            except sql.exc.IntegrityError:
                pass
            with self.engine.connect() as connection:  # its own, if the server went away before it could say so
                return connection.scalar(sql.select(_LEASES.c.owner).where(*here)) == owner

    @again
    def beat(self, owner: str) -> None:
        """Show that an owner lives, on all it holds."""
        with self._write() as connection:
            mine = (_LEASES.c.study == self.study, _LEASES.c.owner == owner)
            connection.execute(sql.update(_LEASES).where(*mine).values(beat=_LEASES.c.beat + 1))

    @again
    def release(self, item: str, owner: str) -> None:
        """Give a lease back, if it is still the owner's."""
        with self._write() as connection:
            here = (_LEASES.c.study == self.study, _LEASES.c.item == item, _LEASES.c.owner == owner)
            connection.execute(sql.delete(_LEASES).where(*here))

    def _require(self, connection: sql.Connection, item: str, owner: str | None) -> None:
        if owner is None:
            return
        query = sql.select(_LEASES.c.owner).where(_LEASES.c.study == self.study, _LEASES.c.item == item)
        if connection.scalar(query.with_for_update()) != owner:
            raise LeaseLost(item)

    def _rows(self, table: sql.Table, order: Any, *where: Any) -> list[dict[str, Any]]:
        columns = [column for column in table.c if column.name != "study"]
        names = [column.name for column in columns]
        return [dict(zip(names, row, strict=True)) for row in self._tuples(columns, order, *where)]

    @again
    def _tuples(self, columns: list[Any], order: sql.Column[Any], *where: Any) -> list[Any]:
        query = sql.select(*columns).where(order.table.c.study == self.study, *where).order_by(order)
        with self._guard(), self.engine.connect() as connection:
            return list(connection.execute(query))

    def _put(self, connection: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> None:
        full = {"study": self.study, **row}
        here = sql.and_(*(column == full[column.name] for column in table.primary_key))
        if not connection.execute(sql.select(table.c.study).where(here)).first():
            connection.execute(sql.insert(table).values(full))
        else:
            connection.execute(sql.update(table).where(here).values(row))

    @contextmanager
    def _write(self) -> Iterator[sql.Connection]:
        """A transaction that has the right to write from its start, so that what it reads stays true."""
        with self._guard(), self.engine.begin() as connection:
            if self.path is not None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Database faults as one line that says what is kept."""
        try:
            yield
        except (sql.exc.DBAPIError, json.JSONDecodeError) as error:
            raise self.fault(error) from error

    def fault(self, error: Exception) -> StudyError:
        """The line for a database that cannot be used."""
        return server.fault(self.label, error)


def trial_item(number: int) -> str:
    """A trial's name among leases."""
    return f"trial {number}"


def training_item(network_key: str, seed: int) -> str:
    """A training's name among leases."""
    return f"training {network_key} {seed}"


def _portions(items: list[Any], size: int = 500) -> Iterator[list[Any]]:
    """Lists that fit into one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _training(row: dict[str, Any]) -> TrainingRecord:
    rungs = tuple((int(epochs), float(error)) for epochs, error in row.pop("rungs"))
    return TrainingRecord(rungs=rungs, losses=tuple(row.pop("losses")), **row)
