"""Waits that signals end. `interrupts.py all`: each kind of wait, one after the other, says "waiting KIND" and is then sent
SIGINT; `once`: waits for what never comes; `join`: joins a session whose others do not come; `stress`: handlers that raise
at any time leave nothing taken."""

import random
import signal
import sys
import time

import dsm
from codes import code_of


class Interrupt(Exception):
    pass


def say(*words: object) -> None:
    # One write: the lines of two processes on one pipe stay whole.
    print(" ".join(map(str, words)) + "\n", end="", flush=True)


def interrupted(kind: str, wait) -> None:
    try:
        # The signal may come as soon as this is read.
        say("waiting", kind)
        wait()
    except KeyboardInterrupt:
        say("interrupted", kind)
    else:
        say("not interrupted", kind)


def each(session: dsm.Session) -> None:
    """Rank 1 has the lock "m" when a line comes."""
    sys.stdin.readline()
    signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
    signal.signal(signal.SIGUSR2, lambda *_: say("leaving:", code_of(session.leave)))
    words = session.named("words", 8).cast("i")
    lock, semaphore = session.lock("m"), session.semaphore("never", 0)
    interrupted("lock", lock.acquire)
    interrupted("lock", lambda: lock.acquire(timeout=300))
    interrupted("semaphore", semaphore.wait)
    interrupted("semaphore", lambda: semaphore.wait(timeout=300))
    interrupted("sleeping", lambda: session.wait_for(words, 0, 0))
    interrupted("sleeping", lambda: session.wait_for(words, 0, 0, timeout=300))
    interrupted("barrier", session.barrier)
    interrupted("barrier", lambda: session.barrier(timeout=300))
    interrupted("holes", lambda: holes(session))
    # All of them are as if they had not been called.
    assert not semaphore.try_wait() and session.notify(words, 0) == 0 and code_of(lock.release) == "DSM_NOT_OWNER"
    say("free the lock")
    with lock:
        say("locked")
    session.leave()


def holes(session: dsm.Session) -> None:
    """One after the other: none of them waits for long."""
    block = session.named("holes", 8192)
    while True:
        with session.hole(block):
            block[0] = (block[0] + 1) % 256


def lost(session: dsm.Session) -> None:
    """The server does not answer while these are interrupted; what they get later is given back."""
    sys.stdin.readline()
    lock, free, semaphore = session.lock("m"), session.lock("free"), session.semaphore("s", 1)
    interrupted("lock", lock.acquire)
    interrupted("free lock", free.acquire)
    interrupted("semaphore", lambda: semaphore.wait(timeout=300))
    interrupted("barrier", lambda: session.barrier(timeout_ms=1))
    sys.stdin.readline()
    say("semaphore", semaphore.wait(timeout=60))
    for one in (lock, free):
        # Until libdsm has heard of it, and has given it back, this process has the lock or waits for it.
        end = time.monotonic() + 60
        while (code := code_of(lambda: one.acquire(timeout=60))) == "DSM_BUSY" and time.monotonic() < end:
            time.sleep(0.01)
        say("lock", code)
    session.leave()


def once(session: dsm.Session) -> None:
    interrupted("semaphore", session.semaphore("never", 0).wait)
    session.leave()


armed = False


def stress(session: dsm.Session) -> None:
    """What the program was not given it does not have: Python may also lose the result of a call."""

    def fire(*_: object) -> None:
        if armed:
            raise Interrupt

    def attempt(take) -> bool:
        global armed
        got = False
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, chance.choice([4e-4, 4e-3])))
            take()
            got = True
            armed = False
        except Interrupt:
            armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        return got

    signal.signal(signal.SIGALRM, fire)
    chance = random.Random(1)
    lock, semaphore = session.lock("stress"), session.semaphore("stress", 1)
    counts = {True: 0, False: 0}
    end = time.monotonic() + 20
    while time.monotonic() < end and min(counts.values()) < 50:
        got = attempt(lock.acquire)
        assert code_of(lock.release) == ("DSM_OK" if got else "DSM_NOT_OWNER"), (counts, got)
        got = attempt(semaphore.wait)
        assert semaphore.try_wait() == (not got), (counts, got)
        semaphore.post()
        counts[got] += 1
    assert sum(counts.values()) > 0
    session.leave()
    say("ok")


if sys.argv[1] == "join":
    interrupted("join", lambda: dsm.join())
else:
    {"all": each, "lost": lost, "once": once, "stress": stress}[sys.argv[1]](dsm.join())
