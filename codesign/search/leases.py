"""Leases: who works on a trial or a training, so that nothing is done twice and nothing is left lying.

A worker holds a lease on what it works on, and a thread of it raises the lease's beat. Others take a lease over when
they have watched it for `timeout_s` by their own clocks without a beat - clocks of machines are never compared - or
at once when its owner was a process of this machine that is gone. What is written names its lease's owner in the
same transaction, so a worker that was stopped for too long and wakes up again cannot overwrite its successor.
"""

import os
import socket
import threading
import time
import uuid
from pathlib import Path

from codesign.errors import StudyError
from codesign.search.records import Lease, Records

TIMEOUT_S = 60.0
BEATS = 6  # of a living owner within the timeout
SECOND_DEATH = 2
"""Owners that die over a training before it counts as what kills them."""


class Leases:
    """The leases of one worker; use it as a context, which gives back what is still held.

    Args:
        records: of the study.
        timeout_s: after which a lease without a beat is taken over.
    """

    def __init__(self, records: Records, timeout_s: float = TIMEOUT_S) -> None:
        self.records, self.timeout_s = records, timeout_s
        self.owner = f"{_machine()} {os.getpid()} {_started(os.getpid())} {uuid.uuid4().hex[:8]}"
        self.held: set[str] = set()
        self._seen: dict[str, tuple[Lease, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for item in list(self.held):
            try:
                self.release(item)
            except StudyError:  # the database is gone: the lease will run out
                break

    def claim(self, item: str) -> int | None:
        """Take an item if nobody alive works on it: the number of owners that died over it, None if it is taken."""
        if item in self.held:
            return None
        lease = self.records.leases().get(item)
        if lease is not None and not self._is_dead(lease):
            return None
        if not self.records.claim(item, self.owner, lease):
            return None
        self.held.add(item)
        return 0 if lease is None else lease.deaths + 1

    def release(self, item: str) -> None:
        """Give an item back."""
        self.records.release(item, self.owner)
        self.held.discard(item)

    def forget(self, item: str) -> None:
        """Stop working on an item that somebody else has taken over."""
        self.held.discard(item)

    def free(self, items: list[str]) -> list[str]:
        """Those that nobody alive works on."""
        leases = self.records.leases()
        return [item for item in items if item not in self.held and (item not in leases or self._is_dead(leases[item]))]

    def left_by_the_dead(self) -> set[str]:
        """Items whose owners died."""
        return {item for item, lease in self.records.leases().items() if item not in self.held and self._is_dead(lease)}

    def _is_dead(self, lease: Lease) -> bool:
        host, process, started, _ = lease.owner.rsplit(" ", 3)
        if host == _machine() and _started(int(process)) != started:
            return True
        before, since = self._seen.get(lease.item, (None, 0.0))
        if before != lease:
            self._seen[lease.item] = lease, time.monotonic()
            return False
        # While the server was away nobody could show that it lives.
        return time.monotonic() - max(since, self.records.server.back) > self.timeout_s

    def _beat(self) -> None:
        while not self._stop.wait(self.timeout_s / BEATS):
            try:
                self.records.beat(self.owner)
            except StudyError:  # a database that is being restarted: the next beat counts
                continue


def _machine() -> str:
    """Where process numbers mean the same: containers may share a host's name, but not its processes."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{os.stat(space).st_ino if space.exists() else 0}"


def _started(process: int) -> str:
    """When a process of this machine started, in the kernel's ticks; "" if there is none, "?" where nobody tells."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "?"
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state[0] == "Z" else state[19]
