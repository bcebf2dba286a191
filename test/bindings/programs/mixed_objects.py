"""Objects in the map as processes of several languages use them together: see objects.test.ts."""

import os
import signal
import sys

import dsm


def expect(what: str, value: int, expected: int) -> None:
    if value != expected:
        sys.exit(f"{what} is {value}, not {expected}")


session = dsm.join()
block = session.named("objects", 384)
numbers = block[320:].cast("q")
TOTAL, TURN, LEFT, RIGHT, TAKEN, LASTS, DEATHS = range(7)


def count_death() -> None:
    numbers[DEATHS] += 1


mutex = session.mutex_at(block, recover=count_death)
changed = session.cond_at(block[64:128])
offset = mutex.offset
table = session.rwlock_at(offset + 128, recover=count_death)
one = session.semaphore_at(offset + 192)
step = session.barrier_at(offset + 256)


def work(rounds: int) -> None:
    if session.rank == 0:
        one.init(1)
        step.init(session.processes)
    session.barrier()
    for i in range(rounds):
        with mutex:
            numbers[TOTAL] += 1
        with mutex:
            while numbers[TURN] % session.processes != session.rank:
                if i % 2 == 0:
                    changed.wait(mutex)
                else:
                    changed.wait(mutex, timeout_ms=5)
            numbers[TURN] += 1
            changed.broadcast()
        with table.write:
            numbers[LEFT] += 1
            numbers[RIGHT] += 1
        with table.read:
            expect("right", numbers[RIGHT], numbers[LEFT])
        with one:
            numbers[TAKEN] += 1
        if step.wait():
            mutex.acquire(timeout=60)
            numbers[LASTS] += 1
            mutex.release()
    session.barrier()
    every = rounds * session.processes
    for what, number in {"total": TOTAL, "turn": TURN, "left": LEFT, "taken": TAKEN}.items():
        expect(what, numbers[number], every)
    expect("lasts", numbers[LASTS], rounds)


def death() -> None:
    if session.rank == 0:
        mutex.acquire()
        table.write.acquire()
    session.barrier()
    if session.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    with mutex, table.write:
        pass
    session.barrier()
    expect("deaths", numbers[DEATHS], 2)


if sys.argv[1] == "death":
    death()
else:
    work(int(sys.argv[2]))
session.leave()
print("ok")
