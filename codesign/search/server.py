"""A database server that goes away for a while: it is waited for, and what it cut off is done again.

A server is restarted, a connection breaks, two transactions block each other: no reason to end a training. Connecting
waits for a server that was there before, in all threads of a process together, with one line when it goes and one when
it is back. A transaction that was cut off is done again from its start. Nobody knows then whether the server had
committed it, so whatever is done again must come to the same when it is done twice.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sql

from codesign.errors import StudyError

PATIENCE_S = 60.0
"""How long a server may be away."""

RETRY_S = 0.5  # between two tries to reach it
TRIES = 6  # of a transaction
PAUSE_S = 0.05  # before the second; twice as long before each further one

DRIVER_OPTIONS: dict[str, dict[str, Any]] = {
    "psycopg": {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3},
    "psycopg2": {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3},
    "pymysql": {"connect_timeout": 10, "read_timeout": 90, "write_timeout": 90},
    "mysqldb": {"connect_timeout": 10, "read_timeout": 90, "write_timeout": 90},
}
"""In seconds: drivers would wait for hours for an answer of a machine that has vanished."""

T = TypeVar("T")
P = ParamSpec("P")


class Server:
    """What a process does about its database server.

    Args:
        label: its address without the password.
        lasting: whether it is a server at all; a file is neither waited for nor asked again.

    Attributes:
        warn: told in one line when the server is gone, and when it is back.
        back: when it was last back, in seconds of `time.monotonic`.
    """

    def __init__(self, label: str, lasting: bool) -> None:
        self.label, self.lasting = label, lasting
        self.warn: Callable[[str], None] = lambda line: None
        self.back = -math.inf
        self._gone: float | None = None
        self._known = False  # a server that never answered is a wrong address
        self._lock = threading.Lock()

    def watch(self, engine: sql.Engine, tell_cuts: bool = False) -> None:
        """Have an engine wait for the server whenever it connects.

        Args:
            tell_cuts: raise CutOff where the server is gone before it has answered. Optuna would repeat such a
                transaction by itself, and do twice what had been committed.
        """
        if self.lasting:
            sql.event.listen(engine, "do_connect", self._connect)
            if tell_cuts:
                sql.event.listen(engine, "handle_error", _tell_cut)

    def _connect(self, dialect: sql.Dialect, _: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if not self._known:
                    raise
                self._missed(error)
            else:
                self._reached()
                return connection
            time.sleep(RETRY_S)

    def _missed(self, error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            cause = str(error).splitlines()[0]
            if self._gone is None:
                self._gone = now
                self.warn(f"{self.label}: {cause}; waits up to {PATIENCE_S:.0f} s for it")
            if now - self._gone > PATIENCE_S:  # all threads give up together, and none waits anew
                raise fault(self.label, error) from error

    def _reached(self) -> None:
        with self._lock:
            self._known = True
            if self._gone is not None:
                self.back = time.monotonic()
                self.warn(f"{self.label}: is back after {self.back - self._gone:.0f} s")
                self._gone = None

    def again(self, work: Callable[[], T]) -> T:
        """Do something until the server does not cut it off."""
        for attempt in range(TRIES):
            try:
                return work()
            except Exception as error:
                if not self.lasting or attempt == TRIES - 1 or not _is_passing(error):
                    raise
            time.sleep(PAUSE_S * 2**attempt * (0.5 + random.random()))  # those that met do not meet again
        raise AssertionError


class Served(Protocol):
    """What has a server."""

    server: Server


S = TypeVar("S", bound=Served)


def again(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that is done again when the server cuts it off."""

    @wraps(method)
    def patient(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.server.again(lambda: method(self, *args, **kwargs))

    return cast(Callable[Concatenate[S, P], T], patient)


def fault(label: str, error: Exception) -> StudyError:
    """The line for a database that cannot be used."""
    error = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return StudyError(
        f"{label}: {cause}; what was written before is kept, run the same command again once it is mended"
    )


class CutOff(Exception):
    """The server was gone before it answered; nobody knows whether it had committed."""


def _tell_cut(context: sql.ExceptionContext) -> None:
    if context.is_disconnect and not context.is_pre_ping:  # a ping that fails is followed by a new connection
        raise CutOff(str(context.original_exception)) from context.original_exception


def _is_passing(error: Exception) -> bool:
    """Whether another try may succeed: after a cut, a deadlock, or a row that another process inserted first."""
    if isinstance(error, CutOff):
        return True
    cause = error if isinstance(error, sql.exc.DBAPIError) else error.__cause__
    if isinstance(cause, sql.exc.OperationalError | sql.exc.IntegrityError | sql.exc.PendingRollbackError):
        return True  # the last of them: a session that was cut off says so once more before it begins anew
    return isinstance(cause, sql.exc.DBAPIError) and cause.connection_invalidated
