"""dsm for Python: processes on one machine or many share one memory space.

    import dsm, numpy as np

    with dsm.join() as session:                    # settings from DSM_*, which `dsm run` sets
        grid = session.array("grid", np.float64, (1024, 1024))  # the same block in every process
        grid[session.rank] += 1.0                  # a plain write, shared by all
        session.barrier()

Writing through a NumPy array, a memoryview or ctypes is the whole interface: stores are caught by libdsm and seen by
every process of the session, as its order says (see dsm.h). Python's own atomicity stops at one process: use
Session.lock() or a semaphore for read-modify-write.

libdsm.so is taken from DSM_LIBRARY, which `dsm run` sets; else from where `dsm install` put it: beside the `dsm` in the
PATH, or where the system looks. Under `dsm run` signals may be blocked and handlers set (signal.pthread_sigmask,
faulthandler.enable) at any time. Without it do so before joining, or start Python with LD_PRELOAD=libdsm.so: afterwards
a blocked SIGSEGV or a handler for it ends the process at its next store. Calls that wait give the
interpreter's lock back. Every failure is a dsm.Error with a `code` such as "DSM_TIMEOUT".
"""

from __future__ import annotations

import ctypes
import os
import shutil
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Iterator, Optional

__all__ = ["Error", "Hole", "Semaphore", "Session", "join"]


class Error(Exception):
    """A call that failed: `code` is the name of the status, the text says why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


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


_OK, _AGAIN, _TIMEOUT = 0, 1, 2
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
            library = ctypes.CDLL(path)
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
            ("dsm_is_direct", c_int, [session]),
            ("dsm_barrier_wait", c_int, [session]),
            ("dsm_fence", c_int, [session]),
            ("dsm_sem_wait", c_int, [session, c_char_p, c_uint32]),
            ("dsm_sem_trywait", c_int, [session, c_char_p, c_uint32]),
            ("dsm_sem_timedwait", c_int, [session, c_char_p, c_uint32, c_uint32]),
            ("dsm_sem_post", c_int, [session, c_char_p, c_uint32]),
            ("dsm_hole_dig", c_int, [session, c_void_p, c_size_t, POINTER(c_int)]),
            ("dsm_hole_fill", c_int, [session, c_int]),
            ("dsm_alloc", c_int, [session, c_size_t, c_size_t, POINTER(c_void_p)]),
            ("dsm_free", c_int, [session, c_void_p]),
            ("dsm_named", c_int, [session, c_char_p, c_size_t, POINTER(c_void_p)]),
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


def _name(what: str, name: str) -> bytes:
    text = name.encode()
    if b"\0" in text:
        raise Error("DSM_INVALID", f"the {what} name has a zero byte")
    return text


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
) -> "Session":
    """Joins a session, creating it if it is not there, and waits until all its processes have joined.

    What is left out comes from DSM_SESSION, DSM_PROCESSES, DSM_SIZE, DSM_NODE, DSM_DAEMON, DSM_ORDER, DSM_ON_LOSS,
    DSM_ELASTIC, DSM_RANK, DSM_JOIN_TIMEOUT_MS and DSM_DIRECT. `size` is in bytes.
    """
    library = _load()
    config = _Config()
    _check(library.dsm_config_init(byref(config)))
    texts = {"session": session, "node": node, "daemon": daemon, "order": order, "on_loss": on_loss}
    for field, text in texts.items():
        if text is not None:
            setattr(config, field, _name(field, text))
    limits = {"processes": 2**32, "size": 2**64, "join_timeout_ms": 2**32, "rank": 2**31}
    numbers = {"processes": processes, "size": size, "join_timeout_ms": join_timeout_ms, "rank": rank}
    for field, number in numbers.items():
        if number is None:
            continue
        if not 0 <= number < limits[field]:
            raise Error("DSM_INVALID", f"{field} is {number}; give a whole number from 0 on")
        setattr(config, field, number)
    if direct is not None:
        config.direct = int(direct)
    if elastic is not None:
        config.elastic = int(elastic)
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
        self.processes: int = library.dsm_processes(pointer)
        self.address: int = library.dsm_address(pointer)
        self.size: int = library.dsm_size(pointer)
        self.node: str = library.dsm_node(pointer).decode()
        self.name: str = library.dsm_name(pointer).decode()
        self.order: str = library.dsm_order(pointer).decode()
        self.buffer = memoryview((ctypes.c_uint8 * self.size).from_address(self.address)).cast("B")
        """All of the shared memory, as writable bytes."""

    @property
    def _pointer(self) -> c_void_p:
        # libdsm itself knows for a while only that a session was left.
        if self._left:
            raise Error("DSM_LEFT", f'this process has left session "{self.name}"')
        return self._handle

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
        self._left = True
        _check(_load().dsm_close(pointer))

    def barrier(self) -> None:
        """Waits until every process that has not left is in the barrier."""
        _check(_load().dsm_barrier_wait(self._pointer))

    def fence(self) -> None:
        """Returns once every store this process made before is in place and has its place in the order."""
        _check(_load().dsm_fence(self._pointer))

    def semaphore(self, name: str, initial: int = 1) -> "Semaphore":
        return Semaphore(self, name, initial)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One process at a time, across nodes: a semaphore that begins at 1."""
        semaphore = self.semaphore(name)
        semaphore.wait()
        try:
            yield
        finally:
            semaphore.post()

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
        if offset < 0 or count < 0 or offset % kind.alignment or offset + count * kind.itemsize > self.size:
            raise Error("DSM_INVALID", f"{count} elements at byte {offset} are not aligned, or not inside the map")
        return numpy.frombuffer(self.buffer, kind, count, offset).reshape(shape)

    def array(self, name: str, dtype: Any, shape: Any) -> Any:
        """The block of that name as a NumPy array: the same in every process, zeroed at first use."""
        import numpy

        block = c_void_p()
        nbytes = int(numpy.prod(shape, dtype=numpy.int64)) * numpy.dtype(dtype).itemsize
        _check(_load().dsm_named(self._pointer, _name("block", name), nbytes, byref(block)))
        return self.view(dtype, shape, (block.value or 0) - self.address)

    def alloc(self, nbytes: int, align: int = 16) -> memoryview:
        """A new block of the map, zeroed. Any process may free() it."""
        block = c_void_p()
        if nbytes < 0 or align < 0:
            raise Error("DSM_INVALID", "a block has 1 byte or more, and a positive alignment")
        _check(_load().dsm_alloc(self._pointer, nbytes, align, byref(block)))
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
        elif not 0 <= timeout_ms < 2**31:
            raise Error("DSM_INVALID", f"a timeout of {timeout_ms} ms is not possible")
        else:
            _check(library.dsm_sem_timedwait(pointer, self._name, self._initial, timeout_ms))

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
