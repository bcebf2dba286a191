"""Objects that lie in the map: mutexes, reader-writer locks, condition variables, semaphores, barriers."""

from __future__ import annotations

import ctypes
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Callable, Literal, NoReturn, Optional, Union

from . import _arguments
from ._errors import Error, InvalidValue, OwnerDied
from ._library import AGAIN, OK, OWNER_DIED, TIMEOUT, check, load, reason_of
from ._waits import wait

if TYPE_CHECKING:
    from ._arrays import Memory
    from ._session import Session

    Place = Union[int, Memory]

OBJECT_SIZE = 64
"""Bytes of an object in the map, which begins at a multiple of as many."""

_VALUE_MAX = 2**31 - 1
_ARRIVALS_MAX = 65536


def _offset(session: Session, kind: str, where: Any) -> int:
    """The byte of the map at which the object lies."""
    session._check_open()
    if hasattr(where, "__index__") and not hasattr(where, "__array__"):
        offset = _arguments.whole("where", where, 2**63 - 1, needed=f"a multiple of {OBJECT_SIZE}")
    else:
        view = _arguments.memory("where", where)
        if view.nbytes < OBJECT_SIZE:
            _arguments.wrong_value("where", where, f"one of {OBJECT_SIZE} bytes or more")
        offset = _arguments.address_of(view) - session.address
        if not 0 <= offset < session.size:
            _arguments.wrong_value("where", where, "one over the map of this session")
    if offset % OBJECT_SIZE != 0:
        needed = f"a multiple of {OBJECT_SIZE}"
        raise InvalidValue("DSM_INVALID", f"a {kind} cannot lie at byte {offset} of the map; give {needed}")
    if offset + OBJECT_SIZE > session.size:
        end = f"ends behind the map, which has {session.size} bytes"
        raise InvalidValue("DSM_INVALID", f"a {kind} at byte {offset} {end}")
    return offset


class _Object:
    _kind = ""

    def __init__(self, session: Session, where: Place) -> None:
        self.offset = _offset(session, self._kind, where)
        self._session = session
        self._address = session.address + self.offset

    def __repr__(self) -> str:
        return f'<dsm.{type(self).__name__} at byte {self.offset} of session "{self._session.name}">'

    def _wait(self, call: str, *arguments: Any, undo: Optional[Callable[[int], object]] = None) -> int:
        function = getattr(load(), call)
        return wait(self._session, function, self._address, *arguments, undo=undo, needs_session=False)

    def _do(self, call: str, *arguments: Any) -> int:
        self._session._check_open()
        status: int = getattr(load(), call)(self._address, *arguments)
        return status


class _MapLock(_Object, ContextDecorator):
    """What can be locked. The names of its calls: to lock, to try, to lock within a time; to unlock, and unmended."""

    _calls = ("", "", "", "", "")

    def __init__(self, session: Session, where: Place, recover: Optional[Callable[[], Any]] = None) -> None:
        super().__init__(session, where)
        if recover is not None and not callable(recover):
            _arguments.wrong_type("recover", recover, "a function without arguments, or None")
        self._recover = recover

    def acquire(self, *unnamed: NoReturn, timeout: Optional[float] = None, timeout_ms: Optional[int] = None) -> Literal[True]:
        """Locks; raises dsm.Timeout if that took longer than `timeout` seconds (or `timeout_ms`)."""
        limit_ms = _arguments.milliseconds(timeout, timeout_ms, unnamed)
        if limit_ms < 0:
            status = self._wait(self._calls[0], undo=self._undo)
        else:
            status = self._wait(self._calls[2], limit_ms, undo=self._undo)
        # Nothing is called after success: Python runs handlers at calls, and one that raises there would leave it locked.
        if status == OK:
            return True
        if status != OWNER_DIED:
            raise reason_of(status)
        self._mend()
        return True

    def try_acquire(self) -> bool:
        """Locks if that needs no wait, else returns False."""
        status = self._wait(self._calls[1], undo=self._undo)
        if status == OK:
            return True
        if status == AGAIN:
            return False
        if status != OWNER_DIED:
            raise reason_of(status)
        self._mend()
        return True

    def release(self, mended: bool = True) -> None:
        """Unlocks. `mended` False: where an owner died, the next one is told, too."""
        check(self._do(self._calls[3] if mended else self._calls[4]))

    def _undo(self, status: int) -> None:
        getattr(load(), self._calls[3] if status == OK else self._calls[4])(self._address)

    def _mend(self) -> None:
        try:
            self._recover_or_raise()
        except BaseException:
            self._release_after_failure()
            raise

    def _recover_or_raise(self) -> None:
        if self._recover is None:
            raise OwnerDied("DSM_OWNER_DIED", str(reason_of(OWNER_DIED)))
        self._recover()

    def _release_after_failure(self) -> None:
        # The error under way says more than that the lock is gone, too.
        try:
            self.release(mended=False)
        except Error:
            pass

    def __enter__(self) -> _MapLock:
        self.acquire()
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self._release_after_failure()


class MapMutex(_MapLock):
    """A mutex that lies in the map: dsm_mutex in C. For `with`. Zero bytes are a free one.

    It belongs to a thread: DSM_BUSY if this thread has it already, DSM_NOT_OWNER if another one releases it. A thread that
    ends does not release it.

    In a session that goes on after a loss (on_loss "continue") it passes on when its owner's process dies or leaves.
    `recover()` is then called as with a `Lock`; without it that is OwnerDied.
    """

    _kind = "mutex"
    _calls = (
        "dsm_mutex_lock",
        "dsm_mutex_trylock",
        "dsm_mutex_timedlock",
        "dsm_mutex_unlock",
        "dsm_mutex_unlock_unmended",
    )


class MapRead(_MapLock):
    """A reader-writer lock, for reading."""

    _kind = "reader-writer lock"
    _calls = (
        "dsm_rwlock_rdlock",
        "dsm_rwlock_tryrdlock",
        "dsm_rwlock_timedrdlock",
        "dsm_rwlock_unlock",
        "dsm_rwlock_unlock_unmended",
    )


class MapWrite(_MapLock):
    """A reader-writer lock, for writing."""

    _kind = "reader-writer lock"
    _calls = (
        "dsm_rwlock_wrlock",
        "dsm_rwlock_trywrlock",
        "dsm_rwlock_timedwrlock",
        "dsm_rwlock_unlock",
        "dsm_rwlock_unlock_unmended",
    )


class MapRwlock:
    """A reader-writer lock that lies in the map: dsm_rwlock in C. Zero bytes are a free one.

        with table.read: ...   # any number of readers
        with table.write: ...  # or one writer

    Readers do not overtake a writer that waits, but for those of a process that reads already. A thread that reads must
    not ask to write: it would wait for itself. If a writer's process dies or leaves, all who lock are told, until a writer
    has mended the data: `recover()` is called in those who write, as with a `MapMutex`. Readers get OwnerDied.
    """

    def __init__(self, session: Session, where: Place, recover: Optional[Callable[[], Any]] = None) -> None:
        self.read = MapRead(session, where)
        self.write = MapWrite(session, where, recover)
        self.offset = self.read.offset

    def __repr__(self) -> str:
        return f'<dsm.MapRwlock at byte {self.offset} of session "{self.read._session.name}">'


class MapCond(_Object):
    """A condition variable that lies in the map: dsm_cond in C.

    with mutex:
        while not full[0]:
            changed.wait(mutex)
    """

    _kind = "condition variable"

    def wait(
        self,
        mutex: MapMutex,
        *unnamed: NoReturn,
        timeout: Optional[float] = None,
        timeout_ms: Optional[int] = None,
    ) -> bool:
        """Unlocks the mutex and waits for a signal, as one step, and locks the mutex again. Check the condition afterwards.

        False: the time was over (`timeout` in seconds, or `timeout_ms`). If an owner of the mutex died meanwhile, the
        mutex's `recover()` is called; without one that is OwnerDied. This thread has the mutex again also when a signal
        handler raises, and with OwnerDied, but not with DSM_LOST, DSM_LEFT and DSM_INVALID (its block was freed).
        """
        limit_ms = _arguments.milliseconds(timeout, timeout_ms, unnamed)
        if not isinstance(mutex, MapMutex):
            _arguments.wrong_type("mutex", mutex, "a MapMutex")
        if mutex._session is not self._session:
            raise InvalidValue("DSM_INVALID", "the condition variable and the mutex are of different sessions")
        if limit_ms < 0:
            status = self._wait("dsm_cond_wait", mutex._address, undo=self._pass_on)
        else:
            status = self._wait("dsm_cond_timedwait", mutex._address, limit_ms, undo=self._pass_on)
        if status == OWNER_DIED:
            mutex._recover_or_raise()
        elif status not in (OK, TIMEOUT):
            raise reason_of(status)
        return status != TIMEOUT

    def _pass_on(self, _: int) -> None:
        # It was signalled, and a handler has raised: the next that waits gets the signal.
        load().dsm_cond_signal(self._address)

    def signal(self) -> None:
        """Lets the first that waits go on. The mutex need not be locked."""
        check(self._do("dsm_cond_signal"))

    def broadcast(self) -> None:
        """Lets all that wait go on."""
        check(self._do("dsm_cond_broadcast"))


class MapSemaphore(_Object):
    """A semaphore that lies in the map: dsm_semaphore in C. For `with`. Zero bytes are one of the value 0."""

    _kind = "semaphore"

    def init(self, value: int) -> None:
        """Gives it a value: once, before others use it, or again. DSM_BUSY: a thread waits for it."""
        check(self._do("dsm_semaphore_init", _arguments.whole("value", value, _VALUE_MAX)))

    def wait(self, *unnamed: NoReturn, timeout: Optional[float] = None, timeout_ms: Optional[int] = None) -> None:
        """Takes one; raises dsm.Timeout if there was none within `timeout` seconds (or `timeout_ms`)."""
        limit_ms = _arguments.milliseconds(timeout, timeout_ms, unnamed)
        if limit_ms < 0:
            status = self._wait("dsm_semaphore_wait", undo=self._undo)
        else:
            status = self._wait("dsm_semaphore_timedwait", limit_ms, undo=self._undo)
        # Nothing is called after success: see _MapLock.acquire().
        if status != OK:
            raise reason_of(status)

    def try_wait(self) -> bool:
        """Takes one if there is one, else returns False."""
        status = self._wait("dsm_semaphore_trywait", undo=self._undo)
        if status == OK:
            return True
        if status == AGAIN:
            return False
        raise reason_of(status)

    def post(self) -> None:
        """Adds one: the first that waits goes on."""
        check(self._do("dsm_semaphore_post"))

    def _undo(self, _: int) -> None:
        load().dsm_semaphore_post(self._address)

    def __enter__(self) -> MapSemaphore:
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.post()


class MapBarrier(_Object):
    """A barrier that lies in the map: struct dsm_barrier in C. Zero bytes are one of as many as the session has processes."""

    _kind = "barrier"

    def init(self, count: int) -> None:
        """Sets how many threads it waits for; 0: as many as the session has processes. DSM_BUSY: a thread waits in it."""
        check(self._do("dsm_barrier_init", _arguments.whole("count", count, _ARRIVALS_MAX)))

    def wait(self, *unnamed: NoReturn, timeout: Optional[float] = None, timeout_ms: Optional[int] = None) -> bool:
        """Waits until so many threads are in it. True in one of them, the last.

        Raises dsm.Timeout after `timeout` seconds (or `timeout_ms`): this thread is out of the barrier again. DSM_MISMATCH:
        others wait there for another count.
        """
        limit_ms = _arguments.milliseconds(timeout, timeout_ms, unnamed)
        is_last = ctypes.c_int()
        if limit_ms < 0:
            status = self._wait("dsm_barrier_arrive_and_wait", ctypes.byref(is_last))
        else:
            status = self._wait("dsm_barrier_arrive_and_wait_timed", limit_ms, ctypes.byref(is_last))
        if status != OK:
            raise reason_of(status)
        return is_last.value == 1
