"""What the package promises beside its calls: errors of its own, what is left after leaving, joining twice, reading."""

import inspect
import os
import pickle
import re
import socket
import sys
import tempfile
import threading
import typing

import dsm
import numpy as np


def error_of(call) -> dsm.Error:
    try:
        call()
    except dsm.Error as error:
        return error
    raise AssertionError("no error")


def refuses(kind: type, words: str, call) -> None:
    error = error_of(call)
    assert isinstance(error, kind) and error.code == "DSM_INVALID", repr(error)
    assert re.search(words, str(error)), f"{error} has no {words}"


def arguments(session: dsm.Session) -> None:
    words, lock = session.named("words", 64).cast("i"), session.lock("arguments")
    semaphore, zeros = session.semaphore("arguments"), np.zeros(4)
    for name in (None, 5, b"a", object()):
        given = re.escape(repr(name))
        for call in (dsm.join, session.lock, session.semaphore, lambda n: session.named(n, 8)):
            if name is not None or call is not dsm.join:
                refuses(TypeError, f"^(name|session) is {given}.*; give a str$", lambda: call(name))
        refuses(TypeError, "name is", lambda: session.array(name, np.int8, 1))
    refuses(ValueError, r"U\+0000", lambda: session.lock("a\0b"))
    refuses(TypeError, "initial is '1' .str.; give a whole number from 0 to 2147483647", lambda: session.semaphore("s", "1"))
    refuses(ValueError, "initial is -1 .int.", lambda: session.semaphore("s", -1))
    refuses(TypeError, "recover is 5", lambda: session.lock("a", recover=5))
    waits = [lock.acquire, semaphore.wait, session.barrier, lambda **limit: session.wait_for(words, 0, 0, **limit)]
    for wait in waits:
        refuses(TypeError, "^timeout is '1' .*a number of seconds from 0 to 2147483.647", lambda: wait(timeout="1"))
        refuses(TypeError, "^timeout_ms is 1.5 .float.; give a whole number of milliseconds, or timeout=SECONDS", lambda: wait(timeout_ms=1.5))
        refuses(TypeError, "not both", lambda: wait(timeout_ms=1, timeout=1))
        for wrong in (-1, -0.001, float("nan"), float("inf"), 2147484):
            refuses(ValueError, "^timeout is ", lambda: wait(timeout=wrong))
    for unnamed in (lock.acquire, semaphore.wait, session.barrier, lambda *limit: session.wait_for(words, 0, 0, *limit)):
        for limit in (2, 0, 1.5, None):
            refuses(TypeError, f"^{limit}.* has no unit; give timeout=SECONDS, or timeout_ms=MILLISECONDS$", lambda: unnamed(limit))
        refuses(TypeError, "^2 arguments too many, from 1 .int. on$", lambda: unnamed(1, 2))
    for array in (None, "text", 5, [1], b"bytes", zeros[::2], np.zeros(1, "M8[s]")):
        for call in (session.hole, session.free, lambda a: session.wait_for(a, 0, 0), lambda a: session.readinto(0, a)):
            refuses((TypeError, ValueError), "^(array|block) is .*; give a NumPy array or a memoryview", lambda: call(array))
    refuses(TypeError, "whole numbers", lambda: session.wait_for(session.array("f", np.float32, 1), 0, 0))
    refuses(TypeError, "^index is 'x'", lambda: session.notify(words, "x"))
    refuses(ValueError, "^index is 16 .int.; give a whole number from 0 to 15", lambda: session.notify(words, 16))
    refuses(TypeError, "^expected is None", lambda: session.wait_for(words, 0, None))
    refuses(TypeError, "^count is 'all'", lambda: session.notify(words, 0, "all"))
    refuses(ValueError, "not in the map|not inside the map", lambda: session.hole(zeros))
    refuses(TypeError, "^nbytes is '8'", lambda: session.named("n", "8"))
    refuses(ValueError, "^nbytes is -8", lambda: session.alloc(-8))
    refuses(TypeError, "^align is 1.5", lambda: session.alloc(8, align=1.5))
    refuses(TypeError, "^dtype is 'nonsense'", lambda: session.array("n", "nonsense", 4))
    refuses(TypeError, "objects belong to one process", lambda: session.array("n", object, 4))
    for shape in ("4", 1.5, None, (4, "4")):
        refuses(TypeError, r"^shape(\[1\])? is ", lambda: session.array("n", np.int8, shape))
    refuses(ValueError, r"^shape\[1\] is -1", lambda: session.view(np.int8, (2, -1)))
    refuses(TypeError, "^offset is '0'", lambda: session.view(np.int8, 4, offset="0"))
    refuses(ValueError, "^offset is -1 .int.; give a whole number of bytes, 0 or more$", lambda: session.view(np.int8, 4, -1))
    refuses(ValueError, "^offset is 4 .int.; give a multiple of 8, to which float64 is aligned$", lambda: session.view("f8", 1, 4))
    beyond = f"needs 800000000 bytes, and the map has {session.size}; give the map at least 763MiB; try --size 1GiB .DSM_SIZE=1GiB.$"
    refuses(ValueError, f"^an array of 100000000 float64 elements at byte 0 {beyond}", lambda: session.view("f8", 10**8))
    refuses(ValueError, "^an array of 1000000000 .* needs 8000000000 bytes, .*; a map has at most 4 GiB$", lambda: session.view("f8", 10**9))
    refuses(ValueError, f"^an array of 1 int8 element at byte {session.size} needs ", lambda: session.view("b", 1, session.size))
    refuses(ValueError, "; a map has at most 4 GiB$", lambda: session.view("b", 2**62, 2**62))
    session.named("mismatched", 4096)
    mismatched = error_of(lambda: session.array("mismatched", "f8", 100))
    words_of = f'block "mismatched" has 4096 bytes in session "{session.name}", not 800; give all processes the same size'
    assert (mismatched.code, str(mismatched)) == ("DSM_MISMATCH", words_of), repr(mismatched)
    for setting in ("processes", "size", "rank", "join_timeout_ms"):
        refuses(TypeError, f"^{setting} is '2'", lambda: dsm.join("s", **{setting: "2"}))
        refuses(ValueError, f"^{setting} is -1", lambda: dsm.join("s", **{setting: -1}))
    for setting in ("direct", "elastic", "autostart"):
        refuses(TypeError, f"^{setting} is 'no' .str.; give True or False", lambda: dsm.join("s", **{setting: "no"}))
    for setting in ("node", "daemon", "order", "on_loss", "binary"):
        refuses(TypeError, f"^{setting} is 5", lambda: dsm.join("s", **{setting: 5}))
    refuses(TypeError, "use dsm.join", lambda: dsm.Session(5))
    refuses(TypeError, "^file is 'name'", lambda: session.readinto("name", words))
    refuses(TypeError, "^position is 'x'", lambda: session.readinto(0, words, "x"))


def timeouts(session: dsm.Session) -> None:
    never, words = session.semaphore("never", 0), session.named("words", 64).cast("i")
    error = error_of(lambda: never.wait(timeout=0.001))
    assert isinstance(error, dsm.Timeout) and isinstance(error, TimeoutError) and error.code == "DSM_TIMEOUT"
    assert isinstance(error_of(lambda: never.wait(timeout_ms=1)), TimeoutError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy)) == (dsm.Timeout, error.code, str(error))
    assert repr(error) == f"dsm.Timeout('DSM_TIMEOUT', {str(error)!r})"
    assert session.wait_for(words, 0, 0, timeout=np.float64(0.001)) is False
    assert isinstance(error_of(lambda: dsm.join("two", processes=2, size=4096, timeout=0.05)), TimeoutError)
    lock = session.lock("timeouts")
    assert lock.acquire(timeout=1) is True
    other = threading.Thread(target=lambda: waited.append(error_of(lambda: lock.acquire(timeout=0.001))))
    waited: list = []
    other.start()
    other.join()
    assert isinstance(waited[0], TimeoutError)
    lock.release()
    session.barrier(timeout=60)


def descriptions(session: dsm.Session) -> None:
    lock, hole = session.lock("m"), session.hole(session.named("hole", 64))
    assert repr(lock) == f'<dsm.Lock "m" of session "{session.name}">'
    with lock:
        assert repr(lock) == f'<dsm.Lock "m" of session "{session.name}", taken by this process>'
    assert repr(session.semaphore("s", 3)) == f'<dsm.Semaphore "s" of session "{session.name}", initially 3>'
    words = f'64 bytes at byte {hole.offset} of session "{session.name}"'
    assert repr(hole) == f"<dsm.Hole of {words}, open>"
    hole.fill()
    assert repr(hole) == f"<dsm.Hole of {words}, filled>"
    assert "filled already" in str(error_of(hole.fill))
    assert repr(session) == (
        f'<dsm.Session "{session.name}", rank 0 of 1, node "{session.node}", {session.size} bytes, '
        f'order "{session.order}">'
    )
    assert repr(dsm.Error("DSM_LOST", "gone")) == "dsm.Error('DSM_LOST', 'gone')"
    for name in dsm.__all__:
        public = getattr(dsm, name)
        if isinstance(public, int):
            continue
        assert public.__doc__ and public.__module__ == "dsm", name
        functions = [public] if inspect.isfunction(public) else [f for f in vars(public).values() if inspect.isfunction(f)]
        for function in functions:
            signature = inspect.signature(function)
            unknown = [p.name for p in signature.parameters.values() if p.name != "self" and p.annotation is p.empty]
            assert not unknown and signature.return_annotation is not signature.empty, (function, unknown)
    assert os.path.exists(os.path.join(os.path.dirname(dsm.__file__), "py.typed"))


def reading(session: dsm.Session) -> None:
    block = session.named("reading", 4096)
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(range(256)) * 16)
        file.flush()
        with open(file.name, "rb") as buffered:
            assert buffered.read(10) == bytes(range(10))
            assert session.readinto(buffered, block[:100]) == 100 and bytes(block[:3]) == bytes([10, 11, 12])
            assert buffered.read(2) == bytes([110, 111])
        with open(file.name, "r+b") as both:
            both.write(b"new")
            assert session.readinto(both, block, 0) == 4096 and bytes(block[:4]) == b"new\3"
        with open(file.name) as text:
            refuses(TypeError, "binary", lambda: session.readinto(text, block))
        # Python's own calls, which libdsm sees where it is preloaded.
        if "libdsm" in os.environ.get("LD_PRELOAD", ""):
            with open(file.name, "rb", buffering=0) as raw:
                assert raw.readinto(block) == 4096 and bytes(block[:4]) == b"new\3"
    ours, theirs = socket.socketpair()
    theirs.sendall(b"through a socket")
    assert session.readinto(ours, block) == 16 and bytes(block[:16]) == b"through a socket"
    ours.settimeout(0.01)
    assert isinstance(error_of(lambda: session.readinto(ours, block)), TimeoutError)
    ours.settimeout(60)
    sender = threading.Timer(0.05, lambda: theirs.sendall(b"later"))
    sender.start()
    assert session.readinto(ours, block) == 5 and bytes(block[:5]) == b"later"
    sender.join()
    ours.setblocking(False)
    assert "does not block" in str(error_of(lambda: session.readinto(ours, block)))
    if "libdsm" in os.environ.get("LD_PRELOAD", ""):
        theirs.sendall(b"python")
        assert ours.recv_into(block) == 6 and bytes(block[:6]) == b"python"
    ours.close()
    refuses(ValueError, "^file is ", lambda: session.readinto(ours, block))
    theirs.close()


def twice(session: dsm.Session) -> None:
    assert dsm.join() is session and dsm.join(session.name, size=session.size - 1) is session
    order = "release" if session.order == "sequential" else "sequential"
    for setting, wrong in {"size": 4096, "processes": 2, "node": "other", "order": order, "on_loss": "continue"}.items():
        refuses(ValueError, f"^{setting} is {wrong!r}.* leave\\(\\) it first", lambda: dsm.join(**{setting: wrong}))
    got: list = []
    other = threading.Thread(target=lambda: got.append(dsm.join()))
    other.start()
    other.join()
    assert got == [session]


def leaving(session: dsm.Session) -> None:
    array, view = session.array("array", np.int64, (4, 4)), session.view(np.uint8, 16)
    block = session.named("block", 16)
    array[:], block[:] = 7, b"x" * 16
    part = array[1]
    end = session.buffer[session.size - 8 :].cast("q")
    end[0] = 11
    stop, stored = threading.Event(), threading.Event()

    def store() -> None:
        while not stop.is_set():
            block[1] = (block[1] + 1) % 256
            stored.set()

    storing = threading.Thread(target=store)
    storing.start()
    stored.wait()
    session.leave()
    stored.clear()
    stored.wait()
    stop.set()
    storing.join()
    block[1] = ord("x")
    assert error_of(session.barrier).code == "DSM_LEFT"
    assert ", left, " in repr(session)
    for store in (lambda: array.fill(1), lambda: array.__setitem__(0, 1), lambda: view.__setitem__(0, 1)):
        try:
            store()
            raise AssertionError("stored")
        except ValueError as error:
            assert "read-only" in str(error), error
    assert (array == 7).all() and bytes(block) == b"x" * 16
    # What was derived before goes on, in this process alone; libdsm says so, once.
    part[:], block[0] = 8, 1
    assert (array[1] == 8).all() and block[0] == 1 and end[0] == 11
    # A map in the same place, and a smaller one: what is behind it stays readable.
    for size in (8192, 4096):
        with dsm.join("after", processes=1, size=size) as after:
            assert after.named("a", 8)[0] == 0
            end[0] = 12
            assert end[0] == 12
    with dsm.join() as again:
        assert again is not session and (again.array("array", np.int64, (4, 4)) == 0).all()


session = dsm.join()
for step in (arguments, timeouts, descriptions, reading, twice, leaving):
    step(session)
print("ok")
