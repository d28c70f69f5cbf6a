"""Leases: one holder at a time, taken over from the dead only, and no word from a holder that was replaced."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from codesign.search.leases import Leases
from codesign.search.records import LeaseLost, Records, TrainingRecord, training_item

ITEM = training_item("network", 0)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path, create=True, study="s")


def asleep(leases):
    """A worker that shows no more life, as one that is stopped."""
    leases._stop.set()
    leases._thread.join()


def stranger(owner="elsewhere/1 1 1 x", deaths=0):
    """A lease of another machine's."""
    return {"item": ITEM, "owner": owner, "beat": 0, "deaths": deaths}


def test_of_many_that_claim_at_once_one_gets_it(records):
    workers = [Leases(records) for _ in range(8)]
    won = []
    threads = [threading.Thread(target=lambda w=w: won.append(w.claim(ITEM))) for w in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won, key=str) == [0, *[None] * 7]


def test_given_back_it_can_be_claimed_by_others_with_no_death_counted(records):
    with Leases(records) as first, Leases(records) as second:
        assert first.claim(ITEM) == 0
        assert second.claim(ITEM) is None and second.free([ITEM, "other"]) == ["other"]
        first.release(ITEM)
        assert second.claim(ITEM) == 0


def test_a_context_gives_back_all_it_holds(records):
    with Leases(records) as first:
        first.claim(ITEM)
    assert records.leases() == {}


def test_a_living_owner_keeps_its_lease_however_long_it_works(records):
    with Leases(records, timeout_s=0.3) as first, Leases(records, timeout_s=0.3) as second:
        first.claim(ITEM)
        for _ in range(10):
            assert second.claim(ITEM) is None
            time.sleep(0.1)


def test_a_lease_without_a_beat_is_taken_over_after_the_timeout_of_the_watcher(records):
    with Leases(records, timeout_s=0.3) as second:
        records.claim(ITEM, stranger()["owner"])
        assert second.claim(ITEM) is None  # watched from now on, whatever its clock says
        time.sleep(0.2)
        assert second.claim(ITEM) is None
        time.sleep(0.2)
        assert second.claim(ITEM) == 1


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_taken_over_at_once(records):
    script = (
        "import sys; from pathlib import Path\nfrom codesign.search.leases import Leases\n"
        "from codesign.search.records import Records\n"
        "leases = Leases(Records(Path(sys.argv[1]), study='s')); print(leases.claim(sys.argv[2]), flush=True)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    folder = str(records.path.parent)
    for deaths in (0, 1):
        run = subprocess.run([sys.executable, "-c", script, folder, ITEM], capture_output=True, text=True)
        assert run.returncode == -9 and run.stdout.strip() == str(deaths)
    with Leases(records) as survivor:
        assert survivor.free([ITEM]) == [ITEM]
        assert survivor.claim(ITEM) == 2


def test_a_process_number_that_was_given_to_another_process_does_not_keep_a_lease(records):
    with Leases(records) as leases:
        host, process, started, _ = leases.owner.rsplit(" ", 3)
        records.claim(ITEM, f"{host} {os.getpid()} {int(started) - 1} x")
        assert leases.claim(ITEM) == 1


def test_of_two_that_take_over_from_the_dead_one_gets_it(records):
    records.claim(ITEM, stranger()["owner"])
    dead = records.leases()[ITEM]
    assert records.claim(ITEM, "one", dead) and not records.claim(ITEM, "two", dead)


def test_an_owner_that_was_replaced_while_it_slept_cannot_write(records):
    run = TrainingRecord("network", 0, epochs=1)
    with Leases(records, timeout_s=0.2) as second:
        first = Leases(records, timeout_s=0.2)
        first._thread.start()
        first.claim(ITEM)
        first.owner_was = first.owner
        asleep(first)
        first.owner = "elsewhere/1 1 1 x"  # so that it is not known to be alive on this machine
        records.beat(first.owner_was)
        with records.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE codesign_leases SET owner = ?", (first.owner,))
        second.claim(ITEM)
        time.sleep(0.4)
        assert second.claim(ITEM) == 1
        with pytest.raises(LeaseLost, match=ITEM):
            records.put_training(run, first.owner)
        assert records.training("network", 0) is None
        records.put_training(replace(run, epochs=2), second.owner)
        records.release(ITEM, first.owner)  # waking up, it gives back what is no longer its own
        assert records.leases()[ITEM].owner == second.owner
    assert records.training("network", 0).epochs == 2
