"""Studies on real servers: PostgreSQL and MariaDB for the tables, S3 for weights; several workers, and servers that go
away in the middle."""

import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codesign.cli.main import main
from codesign.errors import InputError, StudyError
from codesign.search import server
from codesign.search.artifacts import Artifacts
from codesign.search.leases import Leases
from codesign.search.records import FAILED, PROPOSED, REFUSED, STOPPED, TRAINED, Event, Records
from codesign.search.results import Results
from codesign.search.study import Study
from tests.search.servers import PASSWORD, Bucket, MariaDB, PostgreSQL, Wire
from tests.search.test_study import outcome
from tests.tiny import tiny_space

ROOT = Path(__file__).parents[2]
SEARCH = {"trials": 4, "confirm_seeds": 1, "rungs": 1, "reduction": 2}
AWAY_S = 5


def space(**search):
    return tiny_space(epochs=2, **(SEARCH | search))


@pytest.fixture(scope="module")
def postgresql():
    with PostgreSQL() as running:
        yield running


@pytest.fixture(scope="module")
def mariadb():
    with MariaDB() as running:
        yield running


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request):
    """Either server."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_database(request, tmp_path):
    """What makes URLs of new databases."""
    if request.param != "sqlite":
        return request.getfixturevalue(request.param).new
    return lambda: f"sqlite:///{tmp_path}/shared-{time.monotonic_ns()}.db"


@pytest.fixture
def credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(credentials):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with Bucket() as running:
        yield running


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory):
    """The folder of the study that those on servers are compared with."""
    study = Study(space(), tmp_path_factory.mktemp("sqlite") / "tiny")
    study.run()
    return study.folder


def gains(folder):
    return [(event.number, event.steps, event.hypervolume) for event in Records(folder).events()]


def check_nothing_is_lost_or_done_twice(study, trials):
    """The wanted number of trials, and Optuna was told of each of them once."""
    found = study.records.trials()
    states = Counter(trial.state for trial in found)
    assert states[TRAINED] + states[STOPPED] == trials and not states[PROPOSED] and not states[FAILED]
    assert [trial.number for trial in found] == list(range(len(found)))
    told = study.proposals.stored.get_trials()
    assert [trial.number for trial in told] == [trial.number for trial in found]
    ended = {TRAINED: "COMPLETE", STOPPED: "PRUNED", REFUSED: "PRUNED"}
    assert [trial.state.name for trial in told] == [ended[trial.state] for trial in found]
    assert [event.number for event in study.records.events()] == list(range(states[TRAINED]))
    trainings = study.records.trainings()
    assert {(t.network_key, t.seed) for t in found if t.state != REFUSED} <= set(trainings)
    for (_, seed), training in trainings.items():
        epochs = [epochs for epochs, _ in training.rungs]  # further seeds pass no rungs
        assert epochs == list(range(1 if seed == 0 else 2, training.epochs + 1))
        assert len(training.losses) == training.epochs
        assert (training.state, training.epochs) in {(TRAINED, 2), (STOPPED, 1)}
        assert training.checkpoint is None
    of_an_epoch = {training.steps / training.epochs for training in trainings.values()}
    assert len(of_an_epoch) == 1 and study.records.spent()[0] == sum(t.steps for t in trainings.values())
    assert study.records.leases() == {}
    for (key, seed), training in trainings.items():
        assert training.state == STOPPED or study.results.weights(key, seed)
    assert all(row.error_test is not None for row in study.front())


# ---------------------------------------------------------------------- the same study anywhere


@pytest.mark.slow
def test_a_study_on_a_server_equals_the_same_study_on_sqlite(database, on_sqlite, tmp_path):
    study = Study(space(), tmp_path / "tiny", database.new())
    study.run()
    assert outcome(study.folder) == outcome(on_sqlite)
    assert gains(study.folder) == gains(on_sqlite)
    check_nothing_is_lost_or_done_twice(study, SEARCH["trials"])


@pytest.mark.slow
def test_a_wire_that_is_cut_at_every_few_commits_changes_nothing(database, on_sqlite, tmp_path):
    with Wire(database.port) as wire:
        study = Study(space(), tmp_path / "tiny", database.url(database.database(), port=wire.port))
        wire.every = 7
        study.run()
        wire.every = 0
        assert wire.cuts > 8
        assert outcome(study.folder) == outcome(on_sqlite)
        assert gains(study.folder) == gains(on_sqlite)
        check_nothing_is_lost_or_done_twice(study, SEARCH["trials"])


def test_two_studies_share_a_server_and_keep_apart(database, tmp_path):
    url = database.new()
    for name in ("one", "two"):
        records = Records(tmp_path, create=True, url=url, study=name)
        records.settle("fingerprint", name)
        records.add_event(0.1)
    assert [Records(tmp_path, url=url, study=name).get("fingerprint") for name in ("one", "two")] == ["one", "two"]
    assert Records(tmp_path, url=url, study="two").events() == [Event(0, 0, 0.0, 0.1)]
    with pytest.raises(StudyError, match="holds several studies, name one of one, two with --study"):
        Records(tmp_path, url=url)


def test_events_with_the_same_figures_that_many_note_at_once_are_all_noted(database, tmp_path):
    url = database.new()
    workers = [Records(tmp_path, create=True, url=url, study="one") for _ in range(4)]
    together = threading.Barrier(len(workers))

    def note(records):
        for _ in range(10):
            together.wait()
            records.add_event(0.1)

    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(note, workers))
    assert workers[0].events() == [Event(number, 0, 0.0, 0.1) for number in range(40)]


# ---------------------------------------------------------------------- several workers


def started(*arguments, **environment):
    """A codesign command of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "codesign.cli.main", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_four_workers_in_three_places_share_a_study_through_postgresql_and_s3(postgresql, bucket, tmp_path):
    url, tiny, trials = postgresql.new(), space(trials=12, confirm_seeds=2), 12
    file = tmp_path / "tiny.toml"
    file.write_text(tiny.text)
    Study(tiny, tmp_path / "first", url, bucket.url)
    processes = [
        started("search", file, "--to", tmp_path / "first", "--workers", 2),
        started("worker", tmp_path / "second", "--storage", url),
        started("worker", tmp_path / "third", "--storage", url),
    ]
    ends = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0, 0, 0], ends
    study = Study(tiny, tmp_path / "first")
    check_nothing_is_lost_or_done_twice(study, trials)
    written = Counter(bucket.written())  # a training that was done twice would have written its weights twice
    assert max(written[str(t.weights)] for t in study.records.trainings().values() if t.weights) == 1
    assert all(name == "codesign-check" or count == 1 for name, count in written.items())
    for folder in ("first", "second", "third"):
        assert not list((tmp_path / folder).rglob("artifacts/*"))
    assert not (tmp_path / "second" / "storage.json").exists()


@pytest.mark.slow
def test_four_workers_share_a_study_through_mariadb(mariadb, tmp_path):
    study = Study(space(trials=12), tmp_path / "tiny", mariadb.new())
    warnings = []
    study.run(warn=warnings.append, workers=4)
    check_nothing_is_lost_or_done_twice(study, 12)
    assert warnings == []


CREATOR = """
import json, sys
from codesign import training
from codesign.search.study import Study
from tests.tiny import tiny_space
space = tiny_space()
training.splits(space.task)
print(flush=True)
for line in sys.stdin:
    folder, url = json.loads(line)
    try:
        study = Study(space, folder, url)
        names = ("fingerprint", "search_space", "box", "environment", "artifacts")
        answer = [study.proposals.stored._study_id, *(study.records.get(name) for name in names)]
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def creators():
    """Two processes that create a study when they are told where."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen([sys.executable, "-c", CREATOR], **pipes) for _ in range(2)]
    try:
        for process in processes:
            process.stdout.readline()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_two_processes_that_create_a_study_at_once_both_get_it(any_database, creators, tmp_path):
    for attempt in range(2):
        url = any_database()
        for place, process in enumerate(creators):
            process.stdin.write(json.dumps([str(tmp_path / f"{attempt}-{place}"), url]) + "\n")
            process.stdin.flush()
        one, two = (json.loads(process.stdout.readline()) for process in creators)
        assert isinstance(one, list), one
        assert one == two
        records = Records(tmp_path / f"{attempt}-0")
        assert records.get("fingerprint") == one[1] and records.trials() == []
        with records.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM studies").scalar() == 1


# ---------------------------------------------------------------------- servers that go away


@pytest.mark.slow
def test_a_study_goes_on_by_itself_when_its_server_is_stopped_and_started_again(database, tmp_path):
    study = Study(space(trials=10), tmp_path / "tiny", database.new(), lease_s=AWAY_S / 2)
    before, warnings, back = [], [], None

    def stop_once(state):
        nonlocal back
        if back is None and state.done >= 3:
            before.extend(trial for trial in study.records.trials() if trial.state in (TRAINED, STOPPED))
            database.stop()
            back = threading.Timer(AWAY_S, database.start)
            back.start()

    study.run(stop_once, warnings.append, workers=2)
    back.join()
    check_nothing_is_lost_or_done_twice(study, 10)
    after = {trial.number: trial for trial in study.records.trials()}
    assert len(before) >= 3 and all(after[trial.number] == trial for trial in before)
    gone = [line for line in warnings if "waits up to 60 s for it" in line]
    assert gone and len(gone) == sum("is back after" in line for line in warnings) <= 3  # one for each process
    assert len(gone) * 2 == len(warnings)  # no lease was taken over, no worker died


def test_a_server_that_stays_away_ends_the_study_with_one_line_and_keeps_everything(database, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE_S", 1.0)
    records = Records(tmp_path, create=True, url=database.new(), study="s")
    records.set("fact", 1)
    told = []
    records.server.warn = told.append
    database.stop()
    try:
        since = time.monotonic()
        for _ in range(2):  # who asks again is answered at once
            with pytest.raises(
                StudyError, match="what was written before is kept, run the same command again"
            ) as caught:
                records.get("fact")
            assert len(str(caught.value).splitlines()) == 1
        assert 1.0 < time.monotonic() - since < 5.0
        assert len(told) == 1 and "; waits up to 1 s for it" in told[0]
    finally:
        database.start()
    assert records.get("fact") == 1 and records.server.back > since
    assert len(told) == 2 and "is back after" in told[1]


def test_while_the_server_was_away_nobody_can_have_died(tmp_path):
    records = Records(tmp_path, create=True, study="s")
    records.claim("trial 1", "elsewhere/1 1 1 x")
    with Leases(records, timeout_s=0.4) as leases:
        assert leases.claim("trial 1") is None
        time.sleep(0.5)
        records.server.back = time.monotonic()
        assert leases.claim("trial 1") is None
        time.sleep(0.5)
        assert leases.claim("trial 1") == 1


# ---------------------------------------------------------------------- passwords


def test_a_password_stands_in_one_file_that_nobody_else_can_read(database, tmp_path, capfd, monkeypatch):
    folder, url = tmp_path / "tiny", database.new()
    secret = url.split(":")[2].partition("@")[0]
    told = []

    def says(act):
        with pytest.raises(InputError) as caught:
            act()
        told.append(str(caught.value))

    Study(tiny_space(), folder, url)
    other = tiny_space(seed=3)
    says(lambda: Study(other, folder))  # another space
    says(lambda: Records(folder, study=None, url=database.new()))
    says(lambda: Study(other, tmp_path / "wrong", database.url("study_1", password=PASSWORD + "x")))
    says(lambda: Study(other, tmp_path / "gone", database.url("study_1", port=1)))
    says(lambda: Study(other, tmp_path / "unescaped", url.replace(secret, PASSWORD)))
    says(lambda: Study(other, tmp_path / "no-url", url.replace("://", "//")))
    says(lambda: Study(other, tmp_path / "port", url.replace(str(database.port), "port")))
    for arguments in (["front", folder], ["report", folder], ["export", folder, "--knee", "--to", tmp_path / "chosen"]):
        main([str(argument) for argument in arguments])
    monkeypatch.setattr(server, "PATIENCE_S", 0.0)
    study = Study(tiny_space(), folder)
    database.stop()
    try:
        says(lambda: study.run(warn=told.append))
    finally:
        database.start()
    told += capfd.readouterr()
    assert len(told) == 11
    for text in told:
        assert PASSWORD not in text and secret not in text and PASSWORD.split("@")[1] not in text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "storage.json":
            assert PASSWORD.encode() not in path.read_bytes() and secret.encode() not in path.read_bytes()
    assert json.loads((folder / "storage.json").read_text()) == {"storage": url}
    assert stat.S_IMODE((folder / "storage.json").stat().st_mode) == 0o600
    (folder / "storage.json").chmod(0o644)
    Study(tiny_space(), folder)
    assert stat.S_IMODE((folder / "storage.json").stat().st_mode) == 0o600


def test_a_password_may_come_from_the_environment_instead_of_the_url(postgresql, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = postgresql.new().replace(":p%40ss%3Aw%2Frd-of-tests", "")
    Study(tiny_space(), tmp_path / "tiny", url)
    assert json.loads((tmp_path / "tiny" / "storage.json").read_text()) == {
        "storage": f"postgresql+psycopg://codesign@127.0.0.1:{postgresql.port}/study_{postgresql.made}"
    }


# ---------------------------------------------------------------------- wrong addresses, one line each


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("nonsense", r"--storage: must be a URL such as postgresql\+psycopg://user@host/database or sqlite:////"),
        ("postgresql+psycopg://u:secret@h:port/db", r"--storage: must be a URL such as postgresql\+psycopg://"),
        ("postgresql+psycopg://u:se@cret@h/db", "--storage: write the characters @ : / of a password as %40"),
        (
            "oracle://u:secret@h/db",
            r"oracle://u:\*\*\*@h/db: no such database or driver is installed; known: p",
        ),
        ("nosql://u:secret@h/db", r"nosql://u:\*\*\*@h/db: no such database or driver is installed; known: p"),
        (
            "mysql://u:secret@h/db",
            r"mysql://u:\*\*\*@h/db: needs a driver that is not installed \(MySQLdb\); write",
        ),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/db", r"u:\*\*\*@127.0.0.1:1/db: connection failed: .*; what was"),
        (
            "mysql+pymysql://u:secret@127.0.0.1:1/db",
            r"u:\*\*\*@127.0.0.1:1/db: \(2003, .*refused.*; what was",
        ),
        (
            "postgresql+psycopg://u:secret@no.invalid/db",
            r"no.invalid/db: failed to resolve host 'no.invalid'.*;",
        ),
        (
            "postgresql+psycopg://u@127.0.0.1:1/db?colour=secret",
            r"127.0.0.1:1/db: invalid connection option .colour.",
        ),
        ("mysql+pymysql://u@127.0.0.1:1/db?colour=secret", "127.0.0.1:1/db: .*unexpected keyword argument 'colour'"),
        (
            "sqlite:////nowhere/to/be/found/study.db",
            "/nowhere/to/be/found/study.db: unable to open database file;",
        ),
    ],
)
def test_a_wrong_address_of_a_database_is_one_line(url, line, tmp_path):
    with pytest.raises(InputError, match=line) as caught:
        Study(tiny_space(), tmp_path / "tiny", url)
    assert len(str(caught.value).splitlines()) == 1 and "secret" not in str(caught.value)
    assert not (tmp_path / "tiny" / "storage.json").exists()


@pytest.mark.parametrize(
    ("module", "url"), [("psycopg", "postgresql+psycopg://u:secret@h/db"), ("pymysql", "mysql+pymysql://u:secret@h/db")]
)
def test_a_driver_that_is_missing_is_one_line_that_says_what_to_install(module, url, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StudyError, match=rf"needs a driver that is not installed \({module}\); write .*pip install "):
        Study(tiny_space(), tmp_path / "tiny", url)


def test_what_a_server_refuses_is_one_line(database, tmp_path):
    for url, cause in (
        (database.url(database.database(), password="wrong"), "password authentication failed|Access denied for user"),
        (database.url("nowhere"), "[Dd]atabase .*nowhere|nowhere"),
    ):
        with pytest.raises(StudyError, match=cause) as caught:
            Study(tiny_space(), tmp_path / "tiny", url)
        assert len(str(caught.value).splitlines()) == 1 and "run the same command again" in str(caught.value)
    with pytest.raises(StudyError, match="is not a study of codesign"):
        Results(tmp_path, database.new())


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://bucket", "--artifacts: must be s3://BUCKET or s3://BUCKET.endpoint=URL, got 'http://bucket'"),
        ("s3://", "--artifacts: must be s3://BUCKET"),
        ("s3://bucket/folder", "--artifacts: must be s3://BUCKET"),
        ("s3://bucket?region=here", "--artifacts: must be s3://BUCKET"),
        ("s3://key:secret@bucket", "--artifacts: write s3://bucket without a key; set AWS_ACCESS_KEY_ID"),
        ("s3://bucket?endpoint=nonsense", "endpoint=nonsense: Invalid endpoint: nonsense; repair this"),
        (
            "s3://bucket?endpoint=http://127.0.0.1:1",
            "endpoint URL: .http://127.0.0.1:1/bucket/.*; repair this,",
        ),
    ],
)
def test_a_wrong_address_of_a_store_is_one_line_before_anything_is_made(url, line, tmp_path, credentials):
    with pytest.raises(InputError, match=line) as caught:
        Study(tiny_space(), tmp_path / "tiny", artifacts=url)
    assert len(str(caught.value).splitlines()) == 1 and "secret" not in str(caught.value)
    assert not (tmp_path / "tiny").exists()


def test_a_bucket_that_is_missing_is_one_line_before_anything_is_made(bucket, tmp_path):
    with pytest.raises(StudyError, match=r"NoSuchBucket.*; make the bucket, then run the same command again"):
        Study(tiny_space(), tmp_path / "tiny", artifacts=bucket.url.replace(bucket.name, "elsewhere"))
    assert not (tmp_path / "tiny").exists()


def test_a_bucket_that_vanishes_is_one_line_when_a_worker_starts(bucket, tmp_path):
    study = Study(tiny_space(), tmp_path / "tiny", artifacts=bucket.url)
    study.results.artifacts.url = bucket.url.replace(bucket.name, "elsewhere")
    with pytest.raises(StudyError, match="make the bucket, then run the same command again"):
        study.run()
    assert study.records.trials() == []


def test_without_a_key_to_a_bucket_one_line_says_how_to_give_it(bucket, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # which knows the key that others used
    with pytest.raises(StudyError, match="Unable to locate credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS"):
        Study(tiny_space(), tmp_path / "tiny", artifacts=bucket.url)


def test_without_boto3_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(InputError, match=r"--artifacts s3://bucket: needs boto3; pip install 'codesign\[servers\]'"):
        Study(tiny_space(), tmp_path / "tiny", artifacts="s3://bucket")


def test_contents_of_a_bucket_are_written_read_and_removed_at_once(bucket, tmp_path):
    store = Artifacts(tmp_path, bucket.url)
    since = time.monotonic()
    name = store.put("net-0", b"content")
    assert store.get(name) == b"content" and store.intact(name)
    bucket.client.put_object(Bucket=bucket.name, Key=name, Body=b"damaged")
    with pytest.raises(InputError, match="is damaged; run the search again"):
        store.get(name)
    store.remove(name)
    store.remove(name)
    with pytest.raises(InputError, match=f"{name}: is lost; run the search again"):
        store.get(name)
    assert time.monotonic() - since < 10


def test_a_bucket_is_named_in_the_path_of_a_server_that_is_not_amazons(bucket, tmp_path):
    store = Artifacts(tmp_path, bucket.url.replace("127.0.0.1", "localhost"))
    assert store.get(store.put("net-0", b"content")) == b"content"


def test_the_files_to_copy_from_the_docs_can_be_read():
    yaml = pytest.importorskip("yaml", reason="needs the extra test")
    folder = ROOT / "docs" / "workers"
    assert set(yaml.safe_load((folder / "compose.yaml").read_text())["services"]) == {"postgres", "store"}
    jobs = list(yaml.safe_load_all((folder / "kubernetes.yaml").read_text()))
    assert [job["kind"] for job in jobs] == ["ConfigMap", "Job", "Job"]
    subprocess.run(["bash", "-n", folder / "slurm.sh"], check=True)
    assert all(f"workers/{file.name}" in (ROOT / "docs" / "workers.md").read_text() for file in folder.iterdir())
