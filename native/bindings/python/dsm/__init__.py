"""dsm for Python: processes on one machine or many share one memory space.

    import dsm, numpy as np

    with dsm.join() as session:                    # settings from DSM_*, which `dsm run` sets
        grid = session.array("grid", np.float64, (1024, 1024))  # the same block in every process
        grid[session.rank] += 1.0                  # a plain write, shared by all
        session.barrier()

Writing through a NumPy array, a memoryview or ctypes is the whole interface: stores are caught by libdsm and seen by
every process of the session, as its order says (see dsm.h). Python's own atomicity stops at one process: use
Session.lock() for read-modify-write.

libdsm.so is taken from DSM_LIBRARY, which `dsm run` sets; else from where `dsm install` put it: beside the `dsm` in the
PATH, or where the system looks. Under `dsm run` signals may be blocked and handlers set (signal.pthread_sigmask,
faulthandler.enable) at any time. Without it do so before joining, or start Python with LD_PRELOAD=libdsm.so: afterwards
a blocked SIGSEGV or a handler for it ends the process at its next store. Calls that wait give the interpreter's lock
back, and have a `timeout_ms`, 0 to 2147483647; left out, they wait for as long as it takes. Every failure is a dsm.Error
with a `code` such as "DSM_TIMEOUT".
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import shutil
import threading
import time
from contextlib import ContextDecorator
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_ssize_t, c_uint32, c_uint64, c_void_p
from typing import Any, Callable, Optional

__all__ = ["Error", "Hole", "Lock", "OwnerDied", "Semaphore", "Session", "join"]


class Error(Exception):
    """A call that failed: `code` is the name of the status, the text says why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class OwnerDied(Error):
    """A lock passed on because its last owner died, or left, while it had it: see `Lock`."""


def _size_advice(nbytes: int) -> str:
    """What to do where the map must have so many bytes."""
    if nbytes > 2**32:
        return "a map has at most 4 GiB"
    return f"start the session with --size {nbytes} or more (DSM_SIZE={nbytes})"


class _Config(ctypes.Structure):
    _fields_ = [
        ("session", c_char_p),
        ("node", c_char_p),
        ("daemon", c_char_p),
        ("processes", c_uint32),
        ("size", c_uint64),
        ("rank", c_int32),
        ("join_timeout_ms", c_uint32),
        ("autostart", c_int32),
        ("binary", c_char_p),
        ("order", c_char_p),
        ("direct", c_int32),
        ("on_loss", c_char_p),
        ("elastic", c_int32),
    ]


_OK, _AGAIN, _TIMEOUT, _OWNER_DIED = 0, 1, 2, 19
_TIMEOUT_MAX_MS = 2**31 - 1
_COUNT_MAX = 2**32 - 1
# Formats of memoryviews whose elements are whole numbers.
_INTEGERS = frozenset("?bBhHiIlLqQnN")
_library: Optional[ctypes.CDLL] = None


def _installed() -> str:
    # What is called libdsm.so there is a script for the linker.
    name = "libdsm.so.0"
    program = shutil.which("dsm")
    path = os.path.join(os.path.dirname(os.path.realpath(program)), "../lib", name) if program else name
    return path if os.path.exists(path) else name


def _load() -> ctypes.CDLL:
    global _library
    if _library is None:
        path = os.environ.get("DSM_LIBRARY") or _installed()
        try:
            library = ctypes.CDLL(path, use_errno=True)
        except OSError as error:
            raise Error("DSM_SYSTEM", f"cannot load {path} ({error}); run `dsm install`, or set DSM_LIBRARY") from None
        session = c_void_p
        for name, result, arguments in [
            ("dsm_config_init", c_int, [POINTER(_Config)]),
            ("dsm_open", c_int, [POINTER(_Config), POINTER(session)]),
            ("dsm_close", c_int, [session]),
            ("dsm_rank", c_int, [session]),
            ("dsm_processes", c_int, [session]),
            ("dsm_address", c_void_p, [session]),
            ("dsm_size", c_size_t, [session]),
            ("dsm_node", c_char_p, [session]),
            ("dsm_name", c_char_p, [session]),
            ("dsm_order", c_char_p, [session]),
            ("dsm_on_loss", c_char_p, [session]),
            ("dsm_is_direct", c_int, [session]),
            ("dsm_barrier_wait", c_int, [session]),
            ("dsm_barrier_timed", c_int, [session, c_uint32]),
            ("dsm_fence", c_int, [session]),
            ("dsm_sem_wait", c_int, [session, c_char_p, c_uint32]),
            ("dsm_sem_trywait", c_int, [session, c_char_p, c_uint32]),
            ("dsm_sem_timedwait", c_int, [session, c_char_p, c_uint32, c_uint32]),
            ("dsm_sem_post", c_int, [session, c_char_p, c_uint32]),
            ("dsm_lock", c_int, [session, c_char_p]),
            ("dsm_lock_try", c_int, [session, c_char_p]),
            ("dsm_lock_timed", c_int, [session, c_char_p, c_uint32]),
            ("dsm_unlock", c_int, [session, c_char_p]),
            ("dsm_unlock_unmended", c_int, [session, c_char_p]),
            ("dsm_hole_dig", c_int, [session, c_void_p, c_size_t, POINTER(c_int)]),
            ("dsm_hole_fill", c_int, [session, c_int]),
            ("dsm_alloc", c_int, [session, c_size_t, c_size_t, POINTER(c_void_p)]),
            ("dsm_free", c_int, [session, c_void_p]),
            ("dsm_named", c_int, [session, c_char_p, c_size_t, POINTER(c_void_p)]),
            ("dsm_wait_while", c_int, [session, c_void_p, c_size_t, c_uint64, c_int32]),
            ("dsm_wake", c_int, [session, c_void_p, c_uint32, POINTER(c_uint32)]),
            ("dsm_read", c_ssize_t, [c_int, c_void_p, c_size_t]),
            ("dsm_pread", c_ssize_t, [c_int, c_void_p, c_size_t, c_int64]),
            ("dsm_last_error", c_char_p, []),
            ("dsm_status_name", c_char_p, [c_int]),
        ]:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        _library = library
    return _library


def _check(status: int) -> None:
    if status != _OK:
        library = _load()
        raise Error(library.dsm_status_name(status).decode(), library.dsm_last_error().decode())


# ctypes takes greater numbers modulo 2**64.
_BYTES_MAX = 2**63


def _name(what: str, name: str) -> bytes:
    # What is not valid UTF-8 is refused by the library, in its words.
    text = name.encode("utf-8", "surrogatepass")
    if b"\0" in text:
        raise Error("DSM_INVALID", f"the {what} name has a control character (U+0000); leave it out")
    return text


def _whole(what: str, number: Any, most: int) -> int:
    if not hasattr(number, "__index__") or not 0 <= number.__index__() <= most:
        raise Error("DSM_INVALID", f"{what} is {number!r}; give a whole number from 0 to {most}")
    return number.__index__()


def _time(timeout_ms: int) -> int:
    return _whole("timeout_ms", timeout_ms, _TIMEOUT_MAX_MS)


def join(
    session: Optional[str] = None,
    *,
    processes: Optional[int] = None,
    size: Optional[int] = None,
    node: Optional[str] = None,
    daemon: Optional[str] = None,
    order: Optional[str] = None,
    on_loss: Optional[str] = None,
    elastic: Optional[bool] = None,
    rank: Optional[int] = None,
    join_timeout_ms: Optional[int] = None,
    direct: Optional[bool] = None,
    autostart: Optional[bool] = None,
    binary: Optional[str] = None,
) -> "Session":
    """Joins a session, creating it if it is not there, and waits until all its processes have joined.

    What is left out comes from DSM_SESSION, DSM_PROCESSES, DSM_SIZE, DSM_NODE, DSM_DAEMON, DSM_ORDER, DSM_ON_LOSS,
    DSM_ELASTIC, DSM_RANK, DSM_JOIN_TIMEOUT_MS, DSM_DIRECT, DSM_AUTOSTART and DSM_BIN (`binary`, the path of the dsm
    program). `size` is in bytes; `order` is "sequential", "release" or "pipelined", `on_loss` "fail" or "continue".
    """
    library = _load()
    config = _Config()
    _check(library.dsm_config_init(byref(config)))
    texts = {"session": session, "node": node, "daemon": daemon, "order": order, "on_loss": on_loss, "binary": binary}
    for field, text in texts.items():
        if text is not None:
            setattr(config, field, _name(field, text))
    limits = {"processes": 2**32, "size": 2**64, "join_timeout_ms": 2**32, "rank": 2**31}
    numbers = {"processes": processes, "size": size, "join_timeout_ms": join_timeout_ms, "rank": rank}
    for field, number in numbers.items():
        if number is None:
            continue
        if not isinstance(number, int) or number < 0:
            raise Error("DSM_INVALID", f"{field} is {number}; give a whole number from 0 on")
        if number >= limits[field]:
            raise Error("DSM_INVALID", f"{field} is {number}; the greatest is {limits[field] - 1}")
        setattr(config, field, number)
    for field, flag in {"direct": direct, "elastic": elastic, "autostart": autostart}.items():
        if flag is not None:
            setattr(config, field, int(flag))
    pointer = c_void_p()
    _check(library.dsm_open(byref(config), byref(pointer)))
    return Session(pointer)


class Session:
    """This process's place in a session, and the memory it shares. A context manager: leaves at its end."""

    def __init__(self, pointer: c_void_p) -> None:
        library = _load()
        self._handle = pointer
        self._left = False
        self.rank: int = library.dsm_rank(pointer)
        self._processes: int = library.dsm_processes(pointer)
        self.address: int = library.dsm_address(pointer)
        self.size: int = library.dsm_size(pointer)
        self.node: str = library.dsm_node(pointer).decode()
        self.name: str = library.dsm_name(pointer).decode()
        self.order: str = library.dsm_order(pointer).decode()
        self.on_loss: str = library.dsm_on_loss(pointer).decode()
        self._turns: dict[bytes, _Turns] = {}
        self.buffer = memoryview((ctypes.c_uint8 * self.size).from_address(self.address)).cast("B")
        """All of the shared memory, as writable bytes."""

    @property
    def _pointer(self) -> c_void_p:
        # libdsm itself knows for a while only that a session was left.
        if self._left:
            raise Error("DSM_LEFT", f'this process has left session "{self.name}"')
        return self._handle

    @property
    def processes(self) -> int:
        """Processes in the session; of an elastic one, in the last barrier this process passed."""
        if not self._left:
            self._processes = _load().dsm_processes(self._handle)
        return self._processes

    @property
    def direct(self) -> bool:
        """Whether all processes are on one node and share its memory directly. Of an elastic session that may end."""
        return _load().dsm_is_direct(self._pointer) != 0

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._left:
            self.leave()

    def leave(self) -> None:
        """Leaves the session. Arrays over the map keep its last state, read-only: a store then ends the program."""
        pointer = self._pointer
        self._processes = self.processes
        self._left = True
        _check(_load().dsm_close(pointer))

    def barrier(self, timeout_ms: Optional[int] = None) -> None:
        """Waits until every process that has not left is in the barrier.

        DSM_TIMEOUT after `timeout_ms`: this process is out of the barrier again.
        """
        library, pointer = _load(), self._pointer
        if timeout_ms is None:
            _check(library.dsm_barrier_wait(pointer))
        else:
            _check(library.dsm_barrier_timed(pointer, _time(timeout_ms)))

    def fence(self) -> None:
        """Returns once every store this process made before is in place and has its place in the order."""
        _check(_load().dsm_fence(self._pointer))

    def semaphore(self, name: str, initial: int = 1) -> "Semaphore":
        return Semaphore(self, name, initial)

    def lock(self, name: str, recover: Optional[Callable[[], Any]] = None) -> "Lock":
        """The session's lock of that name, for `with`. `recover()` is called when its last owner died: see `Lock`."""
        return Lock(self, name, recover)

    def wait_for(self, array: Any, index: int, expected: int, timeout_ms: Optional[int] = None) -> bool:
        """Sleeps while element `index` of `array`, whole numbers in the map, is `expected`. False: that took too long.

        True at once if it is not, or when notify() woke this process: look again. Comparing and going to sleep are one
        step, so a notification after a change is never missed. `array` is a NumPy array or memoryview, and `index`
        counts through all its dimensions.
        """
        address, width = self._place(array, index)
        if not hasattr(expected, "__index__"):
            raise Error("DSM_INVALID", f"expected is {expected!r}; give a whole number")
        value = expected.__index__() % 2 ** (8 * width)
        limit_ms = -1 if timeout_ms is None else _time(timeout_ms)
        status = _load().dsm_wait_while(self._pointer, address, width, value, limit_ms)
        if status not in (_AGAIN, _TIMEOUT):
            _check(status)
        return status != _TIMEOUT

    def notify(self, array: Any, index: int, count: Optional[int] = None) -> int:
        """Wakes those who sleep at element `index` of `array`: all, or at most `count`. Returns how many."""
        address, _ = self._place(array, index)
        most = _COUNT_MAX if count is None else _whole("count", count, _COUNT_MAX)
        woken = c_uint32()
        _check(_load().dsm_wake(self._pointer, address, most, byref(woken)))
        return woken.value

    def readinto(self, file: Any, array: Any, position: Optional[int] = None) -> int:
        """Reads from a file, pipe or socket into `array` over the map, which the kernel cannot write to (EFAULT).

        `file` is a descriptor, or has a fileno(); what is in a buffer of its own is not looked at, so open files with
        buffering=0. Reads at the byte `position`, or where the file is. Returns the bytes read, 0 at the end.
        """
        library = _load()
        _ = self._pointer
        descriptor = _whole("the descriptor", file.fileno() if hasattr(file, "fileno") else file, 2**31 - 1)
        address, nbytes = self._range(array)
        while True:
            if position is None:
                got = library.dsm_read(descriptor, address, nbytes)
            else:
                got = library.dsm_pread(descriptor, address, nbytes, _whole("position", position, 2**63 - 1))
            if got >= 0:
                return got
            reason = ctypes.get_errno()
            if reason != errno.EINTR:  # else Python's handlers run, and may raise
                raise Error("DSM_SYSTEM", f"descriptor {descriptor} cannot be read: {os.strerror(reason)}")

    def _place(self, array: Any, index: int) -> tuple[int, int]:
        view = memoryview(array)
        if view.format.lstrip("@=<") not in _INTEGERS:
            raise Error("DSM_INVALID", f"elements of format {view.format!r} cannot be slept on; use whole numbers")
        address, nbytes = self._range(array)
        return address + _whole("index", index, nbytes // view.itemsize - 1) * view.itemsize, view.itemsize

    def _range(self, array: Any) -> tuple[int, int]:
        view = memoryview(array)
        if not view.c_contiguous:
            raise Error("DSM_INVALID", "the array is not contiguous")
        address = ctypes.addressof((ctypes.c_char * view.nbytes).from_buffer(view.cast("B"))) if view.nbytes else 0
        return address, view.nbytes

    def hole(self, array: Any) -> "Hole":
        """Writes to `array` (NumPy array or memoryview over the map) are private until the hole is filled."""
        return Hole(self, *self._range(array))

    def view(self, dtype: Any, shape: Any, offset: int = 0) -> Any:
        """A NumPy array over the map from byte `offset` on."""
        import numpy

        kind = numpy.dtype(dtype)
        count = int(numpy.prod(shape, dtype=numpy.int64))
        if offset % kind.alignment:
            raise Error("DSM_INVALID", f"an array at byte {offset} is not aligned; give a multiple of {kind.alignment}")
        end = offset + count * kind.itemsize
        if offset < 0 or count < 0 or end > self.size:
            words = f"{count} elements at byte {offset} are not inside the map of {self.size} bytes"
            raise Error("DSM_INVALID", words if end <= self.size else f"{words}; {_size_advice(end)}")
        return numpy.frombuffer(self.buffer, kind, count, offset).reshape(shape)

    def array(self, name: str, dtype: Any, shape: Any) -> Any:
        """The block of that name as a NumPy array: the same in every process, zeroed at first use."""
        import numpy

        nbytes = int(numpy.prod(shape, dtype=numpy.int64)) * numpy.dtype(dtype).itemsize
        return self.view(dtype, shape, self._named(name, nbytes))

    def named(self, name: str, nbytes: int) -> memoryview:
        """The block of that name, aligned to 64 bytes: the same in every process, zeroed at first use."""
        offset = self._named(name, nbytes)
        return self.buffer[offset : offset + nbytes]

    def _named(self, name: str, nbytes: int) -> int:
        block = c_void_p()
        size = _whole("the size of a block", min(nbytes, _BYTES_MAX), _BYTES_MAX)
        _check(_load().dsm_named(self._pointer, _name("block", name), size, byref(block)))
        return (block.value or 0) - self.address

    def alloc(self, nbytes: int, align: int = 16) -> memoryview:
        """A new block of the map, zeroed. Any process may free() it."""
        block = c_void_p()
        if nbytes < 0 or align < 0:
            raise Error("DSM_INVALID", "a block has 1 byte or more, and a positive alignment")
        _check(_load().dsm_alloc(self._pointer, min(nbytes, _BYTES_MAX), min(align, _BYTES_MAX), byref(block)))
        offset = (block.value or 0) - self.address
        return self.buffer[offset : offset + nbytes]

    def free(self, block: Any) -> None:
        """Gives back a block that alloc() or array() gave out, here or in another process."""
        _check(_load().dsm_free(self._pointer, self._range(block)[0]))


class Semaphore:
    """A named semaphore, shared by the session, first come first served. It exists from its first use on."""

    def __init__(self, session: Session, name: str, initial: int) -> None:
        if not 0 <= initial < 2**31:
            raise Error("DSM_INVALID", f"the initial value {initial} is not 0 to 2147483647")
        self._session = session
        self._name = _name("semaphore", name)
        self._initial = initial

    def wait(self, timeout_ms: Optional[int] = None) -> None:
        """Waits; after `timeout_ms` fails with DSM_TIMEOUT."""
        library, pointer = _load(), self._session._pointer
        if timeout_ms is None:
            _check(library.dsm_sem_wait(pointer, self._name, self._initial))
        else:
            _check(library.dsm_sem_timedwait(pointer, self._name, self._initial, _time(timeout_ms)))

    def try_wait(self) -> bool:
        status = _load().dsm_sem_trywait(self._session._pointer, self._name, self._initial)
        if status == _AGAIN:
            return False
        _check(status)
        return True

    def post(self) -> None:
        _check(_load().dsm_sem_post(self._session._pointer, self._name, self._initial))

    def __enter__(self) -> "Semaphore":
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.post()


class _Turns:
    """Where this process's threads take turns for one lock, which belongs to the process and refuses a second thread."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._thread: Optional[int] = None
        self.locked = False

    def take(self, name: bytes, seconds: float) -> bool:
        if self._thread == threading.get_ident():
            raise Error("DSM_BUSY", f'this thread has lock "{name.decode()}" already')
        if not self._free.acquire(timeout=seconds):
            return False
        self._thread = threading.get_ident()
        return True

    def give(self) -> None:
        self._thread = None
        self._free.release()


class Lock(ContextDecorator):
    """A named lock of the session, the same as dsm_lock()'s in C and those of the other languages. For `with`.

    Threads of one process take turns, as with a threading.Lock; one that has it already gets DSM_BUSY. So does any
    thread while another part of the process has it by libdsm itself.

    In a session that goes on after a loss (on_loss "continue") the lock passes on when its owner dies or leaves, and
    what it guards may be half done then. `recover()` is then called, with the lock taken, before `with` or acquire()
    goes on; what it raises comes out of them, with the lock released, and the next owner is told, too. Without
    `recover` that is OwnerDied: a program that does not expect a death never works on what is half done.

        with session.lock("queue", recover=rebuild):
            ...
    """

    def __init__(self, session: Session, name: str, recover: Optional[Callable[[], Any]] = None) -> None:
        self._session = session
        self._name = _name("lock", name)
        self._recover = recover
        self._turns = session._turns.setdefault(self._name, _Turns())

    def acquire(self, timeout_ms: Optional[int] = None) -> None:
        """Takes the lock; after `timeout_ms` fails with DSM_TIMEOUT."""
        if not self._acquire(-1 if timeout_ms is None else _time(timeout_ms)):
            raise Error("DSM_TIMEOUT", f'lock "{self._name.decode()}" was not free within {timeout_ms} ms')

    def try_acquire(self) -> bool:
        """Takes the lock if it is free, else False."""
        library = _load()
        return self._take(0, lambda pointer: library.dsm_lock_try(pointer, self._name))

    def _acquire(self, timeout_ms: int) -> bool:
        library = _load()
        if timeout_ms < 0:
            return self._take(-1, lambda pointer: library.dsm_lock(pointer, self._name))
        end = time.monotonic() + timeout_ms / 1000

        def timed(pointer: c_void_p) -> int:
            left_ms = max(0, math.ceil((end - time.monotonic()) * 1000))
            return library.dsm_lock_timed(pointer, self._name, min(left_ms, timeout_ms))

        return self._take(timeout_ms / 1000, timed)

    def _take(self, seconds: float, call: Callable[[c_void_p], int]) -> bool:
        _ = self._session._pointer
        if not self._turns.take(self._name, seconds):
            return False
        try:
            status = call(self._session._pointer)
            if status in (_AGAIN, _TIMEOUT):
                return False
            if status != _OWNER_DIED:
                _check(status)
            self._turns.locked = True
        finally:
            if not self._turns.locked:
                self._turns.give()
        if status == _OWNER_DIED:
            self._mend()
        return True

    def _mend(self) -> None:
        try:
            if self._recover is None:
                raise OwnerDied("DSM_OWNER_DIED", _load().dsm_last_error().decode())
            self._recover()
        except BaseException:
            self._release_after_failure()
            raise

    def release(self, mended: bool = True) -> None:
        """Gives the lock to the next. `mended` False: where its last owner died, the next one is told, too."""
        library = _load()
        unlock = library.dsm_unlock if mended else library.dsm_unlock_unmended
        locked, self._turns.locked = self._turns.locked, False
        try:
            _check(unlock(self._session._pointer, self._name))
        finally:
            if locked:
                self._turns.give()

    def _release_after_failure(self) -> None:
        # The error under way says more than that the lock is gone, too.
        try:
            self.release(mended=False)
        except Error:
            pass

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, kind: Optional[type], *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self._release_after_failure()


class Hole:
    """A hole over part of the map. A context manager: filled at its end."""

    def __init__(self, session: Session, address: int, nbytes: int) -> None:
        number = c_int()
        _check(_load().dsm_hole_dig(session._pointer, address, nbytes, byref(number)))
        self._session = session
        self._number = number.value

    def fill(self) -> None:
        """Publishes exactly the bytes that changed, as one entry of the order."""
        _check(_load().dsm_hole_fill(self._session._pointer, self._number))
        self._number = 0

    def __enter__(self) -> "Hole":
        return self

    def __exit__(self, *_: object) -> None:
        if self._number:
            self.fill()
