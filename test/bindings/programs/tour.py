"""Everything the Python package offers, once, by every process; rank 0 says "ok" when all has come out right."""

import os
import sys
import tempfile
import threading

import dsm
import numpy as np
from codes import code_of


def threads(session: dsm.Session) -> None:
    """Those of one process take turns for a lock, which belongs to the process."""
    sums = session.array("sums", np.int64, 2)

    def add() -> None:
        lock = session.lock("threads")
        for _ in range(10):
            with lock:
                sums[0] += 1
                same, got = session.lock("threads"), []
                other = threading.Thread(target=lambda: got.append(same.try_acquire()))
                other.start()
                other.join()
                sums[1] += not got[0]

    several = [threading.Thread(target=add) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    session.barrier()
    assert list(sums) == [40 * session.processes] * 2, sums

    own = session.lock(f"own{session.rank}")
    with own:
        assert code_of(own.acquire) == "DSM_BUSY"
        assert code_of(session.lock(f"own{session.rank}").try_acquire) == "DSM_BUSY"
        waits = []
        other = threading.Thread(target=lambda: waits.append(code_of(lambda: own.acquire(timeout_ms=1))))
        other.start()
        other.join()
        assert waits == ["DSM_TIMEOUT"]
    assert own.try_acquire()
    other = threading.Thread(target=own.release)
    other.start()
    other.join()
    own.acquire(timeout_ms=2**31 - 1)
    own.release()
    assert code_of(own.release) == "DSM_NOT_OWNER"
    for wrong in (-1, 2**31, 1.5, "1"):
        for wait in (own.acquire, session.barrier, session.semaphore("w").wait):
            assert code_of(lambda: wait(timeout_ms=wrong)) == "DSM_INVALID"

    @own
    def decorated() -> None:
        assert code_of(own.acquire) == "DSM_BUSY"

    decorated()
    session.barrier()


def sleeping(session: dsm.Session) -> None:
    flag = session.array("flag", np.int8, (2, 3))
    assert session.wait_for(flag, 5, 1) and session.wait_for(flag, 5, -1)
    assert not session.wait_for(flag, 5, 0, timeout_ms=1)
    session.barrier()
    assert session.notify(flag, 5) == 0
    session.barrier()
    if session.rank == 0:
        flag[1, 2] = -1
        session.notify(flag, 5)
    else:
        while flag[1, 2] == 0:
            session.wait_for(flag, 5, 0)
    assert session.wait_for(session.named("flag", 6), 5, 0)
    assert not session.wait_for(flag, 5, -1, timeout_ms=1) and not session.wait_for(flag, 5, 255, timeout_ms=1)
    for array, index, expected in [
        (flag, 6, 0),
        (flag, -1, 0),
        (flag, 0, 0.0),
        (flag[:, 1:], 0, 0),
        (np.zeros(3, np.int32), 0, 0),
        (session.array("f", np.float32, 4), 0, 0),
    ]:
        assert code_of(lambda: session.wait_for(array, index, expected, timeout_ms=1)) == "DSM_INVALID"
    assert code_of(lambda: session.notify(flag, 0, -1)) == "DSM_INVALID"
    session.barrier()


def reading(session: dsm.Session) -> None:
    block = session.named(f"read {session.rank}", 4096)
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(bytes(range(256)) * 8)
        assert session.readinto(file, block, 0) == 2048 and bytes(block[:2048]) == bytes(range(256)) * 8
        assert session.readinto(file.fileno(), block, 2000) == 48
        file.seek(1)
        assert session.readinto(file, block[4000:]) == 96 and block[4000] == 1 and file.tell() == 97
        assert session.readinto(file, block, 2048) == 0
    assert code_of(lambda: session.readinto(10**6, block)) == "DSM_SYSTEM"
    assert code_of(lambda: session.readinto(-1, block)) == "DSM_INVALID"
    read, write = os.pipe()
    os.write(write, b"through a pipe")
    assert session.readinto(read, block) == 14 and bytes(block[:14]) == b"through a pipe"


def tour(session: dsm.Session) -> None:
    assert session.on_loss == "fail"
    threads(session)
    sleeping(session)
    reading(session)
    if session.rank == 0:
        assert code_of(lambda: session.barrier(timeout_ms=1)) == "DSM_TIMEOUT"
        for _ in range(1, session.processes):
            session.semaphore("timed out", 0).post()
    else:
        session.semaphore("timed out", 0).wait()
    session.barrier(timeout_ms=2**31 - 1)
    rank, processes = session.rank, session.processes
    table = session.array("table", np.int32, 1024)
    grid = session.array("grid", np.float64, (processes, 500))
    table[rank] = rank + 1
    grid[rank] += np.arange(500) * 0.5 + rank  # vector stores
    session.barrier()
    assert table[:processes].sum() == processes * (processes + 1) // 2
    assert all(grid[other, 499] == 249.5 + other for other in range(processes))
    for _ in range(20):
        with session.lock("turn"):
            table[1023] += 1
    session.barrier()
    assert table[1023] == 20 * processes

    picture = session.array("picture", np.uint8, 20000)
    part = np.array_split(picture, processes)[rank]
    with session.hole(part):
        part[:] = rank + 1
    session.barrier()
    assert all((p == i + 1).all() for i, p in enumerate(np.array_split(picture, processes)))

    where = session.array("where", np.int64, 1)
    if rank == 0:
        block = session.alloc(100, align=4096)
        block[:] = bytes(range(100))
        where[0] = np.frombuffer(block, np.uint8).ctypes.data - session.address
    session.barrier()
    there = session.buffer[int(where[0]) : int(where[0]) + 100]
    assert bytes(there) == bytes(range(100)) and where[0] % 4096 == 0
    session.barrier()
    if rank == processes - 1:
        session.free(there)
    items = session.semaphore("items", 0)
    assert not items.try_wait()
    session.barrier()
    if rank == 0:
        for _ in range(1, processes):
            items.post()
    else:
        items.wait(timeout=60)
    session.barrier()
    assert code_of(lambda: items.wait(timeout_ms=1)) == "DSM_TIMEOUT"
    assert code_of(lambda: session.array("table", np.int32, 1023)) == "DSM_MISMATCH"
    assert code_of(lambda: session.view(np.float64, 10, 4)) == "DSM_INVALID"
    assert code_of(lambda: session.view(np.float64, session.size)) == "DSM_INVALID"
    assert code_of(lambda: session.hole(np.zeros(10))) == "DSM_INVALID"
    assert code_of(lambda: session.alloc(0)) == "DSM_INVALID"
    assert code_of(lambda: session.free(table[1:])) == "DSM_INVALID"
    assert code_of(lambda: dsm.join("a/b")) == "DSM_INVALID"
    for name in ["a\0b", "a\x85", "\u202e", "\u2028", "\ud800", "\x1b[2J"]:
        assert code_of(lambda: dsm.join(name)) == "DSM_INVALID"
        assert code_of(lambda: dsm.join("s", node=name)) == "DSM_INVALID"
        assert code_of(lambda: session.semaphore(name).try_wait()) == "DSM_INVALID"
        assert code_of(lambda: session.array(name, np.int32, 1)) == "DSM_INVALID"
    for nbytes in [2**64 + 16, 2**63]:
        assert code_of(lambda: session.alloc(nbytes)) not in ("OK", None)
        assert code_of(lambda: session.array("huge", np.int8, 2**62)) not in ("OK", None)
    for size in [1e300, float("nan"), 1.5, -1, 2**64, 2**33]:
        assert code_of(lambda: dsm.join("s", size=size)) == "DSM_INVALID"
    session.fence()
    session.barrier()


with dsm.join() as session:
    tour(session)
assert code_of(session.barrier) == "DSM_LEFT"
if session.rank == 0:
    print("ok")
sys.exit(0)
