"""A process of a session that does with the lock "m" what it is told, a word a line; it answers each with a line."""

import os
import signal
import sys

import dsm

session = dsm.join()
guarded = session.named("guarded", 8).cast("i")  # value, and how many have repaired it


def repair() -> None:
    guarded[1] += 1


def fail() -> None:
    raise RuntimeError("cannot be repaired")


locks = {
    "plain": session.lock("m"),
    "repairs": session.lock("m", recover=repair),
    "fails": session.lock("m", recover=fail),
}


def perform(verb: str, which: str = "plain", time: str = "0") -> str:
    lock = locks[which]
    if verb == "with":
        with lock:
            guarded[0] += 1
        return f"value {guarded[0]}, repaired {guarded[1]}"
    if verb == "throw":
        with lock:
            raise RuntimeError("left by an exception")
    if verb == "lock":
        lock.acquire()
        return f"locked, repaired {guarded[1]}"
    if verb == "try":
        return "locked" if lock.try_acquire() else "not locked"
    if verb == "timed":
        lock.acquire(timeout_ms=int(time))
        return "locked"
    if verb == "unlock":
        lock.release()
        return "unlocked"
    if verb == "unmended":
        lock.release(mended=False)
        return "unlocked"
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "leave":
        session.leave()
        return "left"
    return "what?"


for line in sys.stdin:
    try:
        answer = perform(*line.split())
    except dsm.OwnerDied as death:
        answer = f"OwnerDied {death.code} {death}"
    except dsm.Error as error:
        answer = f"{error.code} {error}"
    except RuntimeError as error:
        answer = f"error: {error}"
    print(answer, flush=True)
