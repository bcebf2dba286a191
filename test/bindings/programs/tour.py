"""Everything the Python package offers, once, by every process; rank 0 says "ok" when all has come out right."""

import sys

import dsm
import numpy as np


def code_of(call) -> str:
    try:
        call()
    except dsm.Error as error:
        return error.code
    return "DSM_OK"


def tour(session: dsm.Session) -> None:
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
        where[0] = session._range(block)[0] - session.address
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
        items.wait(60_000)
    session.barrier()
    assert code_of(lambda: items.wait(1)) == "DSM_TIMEOUT"
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
