"""What Python makes of objects in the map, by one process: errors, times, threads, handlers. See objects.test.ts."""

import os
import signal
import threading

import dsm

session = dsm.join()
size = session.size
block = session.named("objects", 384)
base = session.mutex_at(block).offset


def fails(code, text, call, *arguments, **named):
    try:
        result = call(*arguments, **named)
    except dsm.Error as error:
        assert error.code == code and text in str(error), f"{error!r} is not {code}, {text}"
        return error
    raise AssertionError(f"{call} gave {result!r}, not {code}")


# ---- places ----
multiple = "give a multiple of 64"
fails("DSM_INVALID", f"a mutex cannot lie at byte 8 of the map; {multiple}", session.mutex_at, 8)
fails("DSM_INVALID", f"where is -64 (int); {multiple}", session.cond_at, -64)
fails("DSM_INVALID", f"a barrier at byte {size} ends behind the map, which has {size} bytes", session.barrier_at, size)
fails("DSM_INVALID", "where is 'x' (str); give a NumPy array or a memoryview over the map", session.rwlock_at, "x")
fails("DSM_INVALID", "give one of 64 bytes or more", session.semaphore_at, block[:8])
fails("DSM_INVALID", "give one over the map of this session", session.mutex_at, bytearray(64))
error = fails("DSM_INVALID", "cannot lie", session.mutex_at, block[8:])
assert isinstance(error, ValueError)
assert session.mutex_at(base).offset == base
assert repr(session.mutex_at(base)) == f'<dsm.MapMutex at byte {base} of session "{session.name}">'

# ---- a mutex, of a thread ----
mutex = session.mutex_at(block)
with mutex:
    fails("DSM_BUSY", "this thread has the mutex", mutex.acquire)
    fails("DSM_BUSY", "this thread has the mutex", mutex.try_acquire)
    seen = []

    def other():
        seen.append(mutex.try_acquire())
        seen.append(fails("DSM_TIMEOUT", "the wait was not over within 3 ms", mutex.acquire, timeout_ms=3))
        seen.append(fails("DSM_NOT_OWNER", "this thread does not have the mutex", mutex.release))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen[0] is False and isinstance(seen[1], dsm.Timeout) and isinstance(seen[1], TimeoutError), seen
    assert len(seen) == 3, seen
fails("DSM_NOT_OWNER", "this thread does not have the mutex", mutex.release)
fails("DSM_INVALID", "2 (int) has no unit", mutex.acquire, 2)
try:
    with mutex:
        raise KeyError("scope")
except KeyError:
    pass
assert mutex.try_acquire() and mutex.release() is None


@session.mutex_at(block)
def decorated():
    return fails("DSM_BUSY", "this thread has", mutex.acquire)


decorated()

# ---- threads count under it, and wait for a condition variable ----
changed = session.cond_at(block[64:])
numbers = block[320:].cast("q")


def count(turn):
    for _ in range(20):
        with mutex:
            while numbers[0] % 3 != turn:
                changed.wait(mutex)
            numbers[0] += 1
            changed.broadcast()


threads = [threading.Thread(target=count, args=(turn,)) for turn in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert numbers[0] == 60, numbers[0]
with mutex:
    assert changed.wait(mutex, timeout_ms=3) is False
    fails("DSM_BUSY", "this thread has", mutex.acquire)
fails("DSM_NOT_OWNER", "this thread does not have the mutex", changed.wait, mutex)
fails("DSM_INVALID", "mutex is 5 (int); give a MapMutex", changed.wait, 5)
changed.signal()

# ---- a handler that raises ends a wait, and the mutex is locked as before ----


class Stop(Exception):
    pass


def stop(*_):
    raise Stop


signal.signal(signal.SIGALRM, stop)
semaphore = session.semaphore_at(block[192:])
step = session.barrier_at(base + 256)
step.init(2)
for wait in (lambda: changed.wait(mutex), semaphore.wait, step.wait):
    mutex.acquire()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        wait()
        raise AssertionError("the wait was not ended")
    except Stop:
        pass
    mutex.release()

# ---- a reader-writer lock ----
table = session.rwlock_at(block[128:])
with table.read, table.read:
    assert table.write.try_acquire() is False
    fails("DSM_TIMEOUT", "the reader-writer lock", table.write.acquire, timeout=0.003)
with table.write:
    fails("DSM_BUSY", "this thread has the reader-writer lock", table.write.acquire)
    fails("DSM_BUSY", "this thread has the reader-writer lock", table.read.try_acquire)
fails("DSM_NOT_OWNER", "this thread does not have the reader-writer lock", table.read.release)

# ---- a semaphore ----
assert semaphore.try_wait() is False
fails("DSM_TIMEOUT", "stayed 0 for 3 ms", semaphore.wait, timeout_ms=3)
semaphore.init(1)
with semaphore:
    assert semaphore.try_wait() is False
semaphore.wait()
fails("DSM_INVALID", "value is -1 (int); give a whole number from 0 to 2147483647", semaphore.init, -1)
fails("DSM_INVALID", "value is 1.5 (float)", semaphore.init, 1.5)

# ---- a barrier ----
fails("DSM_TIMEOUT", "1 of 2 were not in the barrier", step.wait, timeout_ms=3)
last = []
thread = threading.Thread(target=lambda: last.append(step.wait()))
thread.start()
last.append(step.wait())
thread.join()
assert sorted(last) == [False, True], last
step.init(0)
assert step.wait() is True
fails("DSM_INVALID", "count is 65537 (int); give a whole number from 0 to 65536", step.init, 65537)

# ---- after leaving ----
session.leave()
for call in (mutex.acquire, mutex.release, changed.signal, semaphore.post, step.wait, table.read.acquire):
    fails("DSM_LEFT", "has left session", call)
fails("DSM_LEFT", "has left session", session.mutex_at, 0)
os.write(1, b"ok\n")
