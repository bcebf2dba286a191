"""Sessions."""

from __future__ import annotations

import ctypes
import os
import weakref
from ctypes import byref, c_uint32, c_void_p
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, TypeVar, overload

from . import _arguments, _arrays, _reading
from ._errors import Error
from ._hole import Hole
from ._library import AGAIN, OK, TIMEOUT, check, load
from ._lock import Lock, Turns
from ._objects import MapBarrier, MapCond, MapMutex, MapRwlock, MapSemaphore
from ._semaphore import Semaphore
from ._waits import is_waiting, wait

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ._arrays import Memory
    from ._objects import Place

    _Scalar = TypeVar("_Scalar", bound=np.generic)


_OFFSET_MAX = 2**63 - 1


class Session:
    """This process's place in a session, and the memory it shares. A context manager: leaves at its end.

    dsm.join() makes it. `rank`, `name`, `node`, `order` and `on_loss` are those of the session; `address` and `size`
    those of the map; `buffer` is all of the map, as writable bytes.
    """

    def __init__(self, pointer: c_void_p) -> None:
        if not isinstance(pointer, c_void_p) or not pointer.value:
            _arguments.wrong_type("Session()", pointer, "nothing to it, and use dsm.join()")
        library = load()
        self._handle = pointer
        self._left = False
        self._pid = os.getpid()
        self._turns: dict[bytes, Turns] = {}
        self._arrays: dict[int, weakref.ref[Any]] = {}
        self.rank: int = library.dsm_rank(pointer)
        self._processes: int = library.dsm_processes(pointer)
        self.address: int = library.dsm_address(pointer)
        self.size: int = library.dsm_size(pointer)
        self.node: str = library.dsm_node(pointer).decode()
        self.name: str = library.dsm_name(pointer).decode()
        self.order: str = library.dsm_order(pointer).decode()
        self.on_loss: str = library.dsm_on_loss(pointer).decode()
        self.buffer: memoryview = memoryview((ctypes.c_uint8 * self.size).from_address(self.address)).cast("B")

    def __repr__(self) -> str:
        left = ", left" if self._left else ""
        place = f'rank {self.rank} of {self.processes}, node "{self.node}"'
        return f'<dsm.Session "{self.name}"{left}, {place}, {self.size} bytes, order "{self.order}">'

    def _check_open(self) -> None:
        # libdsm itself knows for a while only that a session was left.
        if self._left:
            raise Error("DSM_LEFT", f'this process has left session "{self.name}"')

    @property
    def _pointer(self) -> c_void_p:
        self._check_open()
        return self._handle

    def _turns_of(self, lock: bytes) -> Turns:
        return self._turns.setdefault(lock, Turns())

    @property
    def processes(self) -> int:
        """Processes in the session; of an elastic one, in the last barrier this process passed."""
        if not self._left:
            self._processes = load().dsm_processes(self._handle)
        return self._processes

    @property
    def direct(self) -> bool:
        """Whether all processes are on one node and share its memory directly. Of an elastic session that may end."""
        return bool(load().dsm_is_direct(self._pointer) != 0)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        if self._left:
            return
        try:
            self.leave()
        except Error:
            # The error under way says more than that the session has ended, too.
            if kind is None:
                raise

    def leave(self) -> None:
        """Leaves the session. What lies over the map keeps its last state.

        Arrays of array() and view() are read-only then. A store through a slice that was taken from one before, or
        through a memoryview, changes the copy in this process only, and the first one prints a message.
        """
        library, pointer = load(), self._pointer
        if is_waiting(self):
            raise Error(
                "DSM_BUSY",
                f'a signal handler cannot leave session "{self.name}" while this thread waits in it; raise an '
                "exception, such as SystemExit, and leave when it has come out of the wait",
            )
        self._processes = self.processes
        self._left = True
        _arrays.make_read_only(self._arrays)
        library.dsm_forgive_stores(pointer)
        check(library.dsm_close(pointer))

    def barrier(self, *unnamed: NoReturn, timeout: Optional[float] = None, timeout_ms: Optional[int] = None) -> None:
        """Waits until every process that has not left is in the barrier.

        Raises dsm.Timeout after `timeout` seconds (or `timeout_ms`): this process is out of the barrier again.
        """
        library, limit_ms = load(), _arguments.milliseconds(timeout, timeout_ms, unnamed)
        if limit_ms < 0:
            check(wait(self, library.dsm_barrier_wait))
        else:
            check(wait(self, library.dsm_barrier_timed, limit_ms))

    def fence(self) -> None:
        """Returns once every store this process made before is in place and has its place in the order."""
        check(load().dsm_fence(self._pointer))

    def semaphore(self, name: str, initial: int = 1) -> Semaphore:
        """The session's semaphore of that name; at its first use in any process it is made with the value `initial`."""
        return Semaphore(self, name, initial)

    def lock(self, name: str, recover: Optional[Callable[[], Any]] = None) -> Lock:
        """The session's lock of that name, for `with`. `recover()` is called when its last owner died: see `Lock`."""
        return Lock(self, name, recover)

    def mutex_at(self, where: Place, recover: Optional[Callable[[], Any]] = None) -> MapMutex:
        """The mutex that lies at byte `where` of the map, a multiple of 64, or where that memory of 64 bytes or more begins.

        The same for all that name the place; zero bytes are a free one. `recover()`: see `MapMutex`.
        """
        return MapMutex(self, where, recover)

    def rwlock_at(self, where: Place, recover: Optional[Callable[[], Any]] = None) -> MapRwlock:
        """The reader-writer lock there, as mutex_at()."""
        return MapRwlock(self, where, recover)

    def cond_at(self, where: Place) -> MapCond:
        """The condition variable there, as mutex_at()."""
        return MapCond(self, where)

    def semaphore_at(self, where: Place) -> MapSemaphore:
        """The semaphore there, as mutex_at(); 0 at first."""
        return MapSemaphore(self, where)

    def barrier_at(self, where: Place) -> MapBarrier:
        """The barrier there, as mutex_at(); of as many as the session has processes at first."""
        return MapBarrier(self, where)

    def wait_for(
        self,
        array: Memory,
        index: int,
        expected: int,
        *unnamed: NoReturn,
        timeout: Optional[float] = None,
        timeout_ms: Optional[int] = None,
    ) -> bool:
        """Sleeps while element `index` of `array`, whole numbers in the map, is `expected`.

        False: the time was over (`timeout` in seconds, or `timeout_ms`). True: it is not `expected`, or notify() woke this
        process: look again. Comparing and going to sleep are one step, so a notification after a change is never missed.
        `array` is a NumPy array or memoryview, and `index` counts through all its dimensions.
        """
        self._check_open()
        limit_ms = _arguments.milliseconds(timeout, timeout_ms, unnamed)
        address, width = _arguments.place(array, index)
        try:
            value = expected.__index__() % 2 ** (8 * width)
        except (AttributeError, TypeError):
            _arguments.wrong_type("expected", expected, "a whole number")
        status = wait(self, load().dsm_wait_while, address, width, value, limit_ms)
        if status not in (OK, AGAIN, TIMEOUT):
            check(status)
        return status != TIMEOUT

    def notify(self, array: Memory, index: int, count: Optional[int] = None) -> int:
        """Wakes those who sleep at element `index` of `array`: all, or at most `count`. Returns how many."""
        pointer = self._pointer
        address, _ = _arguments.place(array, index)
        most = _arguments.COUNT_MAX if count is None else _arguments.whole("count", count, _arguments.COUNT_MAX)
        woken = c_uint32()
        check(load().dsm_wake(pointer, address, most, byref(woken)))
        return woken.value

    def readinto(self, file: _reading.Source, array: Memory, position: Optional[int] = None) -> int:
        """Reads from a file, pipe or socket into `array` over the map, which the kernel cannot write to (EFAULT).

        `file` is open in binary mode, or the number of a descriptor. Reads at the byte `position`, or where the file is,
        and returns the bytes read, 0 at the end. A socket with a timeout raises dsm.Timeout.
        """
        self._check_open()
        return _reading.read_into(file, array, position)

    def hole(self, array: Memory) -> Hole:
        """Writes to `array` (NumPy array or memoryview over the map) are private until the hole is filled."""
        return Hole(self, array)

    @overload
    def view(self, dtype: type[_Scalar], shape: _arrays.Shape, offset: int = 0) -> npt.NDArray[_Scalar]: ...
    @overload
    def view(self, dtype: npt.DTypeLike, shape: _arrays.Shape, offset: int = 0) -> npt.NDArray[Any]: ...

    def view(self, dtype: npt.DTypeLike, shape: _arrays.Shape, offset: int = 0) -> npt.NDArray[Any]:
        """A NumPy array over the map from byte `offset` on."""
        kind, lengths, _ = _arrays.sizes(dtype, shape)
        self._check_open()
        start = _arguments.whole("offset", offset, _OFFSET_MAX, needed="a whole number of bytes, 0 or more")
        return _arrays.over(self.buffer, kind, lengths, start, self._arrays)

    @overload
    def array(self, name: str, dtype: type[_Scalar], shape: _arrays.Shape) -> npt.NDArray[_Scalar]: ...
    @overload
    def array(self, name: str, dtype: npt.DTypeLike, shape: _arrays.Shape) -> npt.NDArray[Any]: ...

    def array(self, name: str, dtype: npt.DTypeLike, shape: _arrays.Shape) -> npt.NDArray[Any]:
        """The block of that name as a NumPy array: the same in every process, zeroed at first use."""
        kind, lengths, nbytes = _arrays.sizes(dtype, shape)
        return _arrays.over(self.buffer, kind, lengths, self._named(name, nbytes), self._arrays)

    def named(self, name: str, nbytes: int) -> memoryview:
        """The block of that name, aligned to 64 bytes: the same in every process, zeroed at first use."""
        size = _arguments.nbytes("nbytes", nbytes)
        offset = self._named(name, size)
        return self.buffer[offset : offset + size]

    def _named(self, name: str, nbytes: int) -> int:
        block = c_void_p()
        size = _arguments.nbytes("nbytes", nbytes)
        check(load().dsm_named(self._pointer, _arguments.text("name", name), size, byref(block)))
        return (block.value or 0) - self.address

    def alloc(self, nbytes: int, align: int = 16) -> memoryview:
        """A new block of the map, zeroed. Any process may free() it."""
        block = c_void_p()
        size, alignment = _arguments.nbytes("nbytes", nbytes), _arguments.nbytes("align", align)
        check(load().dsm_alloc(self._pointer, size, alignment, byref(block)))
        offset = (block.value or 0) - self.address
        return self.buffer[offset : offset + size]

    def free(self, block: Memory) -> None:
        """Gives back a block that alloc(), named() or array() gave out, here or in another process."""
        pointer = self._pointer
        check(load().dsm_free(pointer, _arguments.address_of(_arguments.memory("block", block))))
