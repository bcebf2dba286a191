"""Locks: the session's robust locks, and the turns that threads of this process take for one."""

from __future__ import annotations

import math
import threading
import time
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any, Callable, Literal, NoReturn, Optional

from . import _arguments
from ._errors import Error, OwnerDied, Timeout
from ._library import AGAIN, OK, OWNER_DIED, TIMEOUT, check, load, reason_of
from ._waits import wait

if TYPE_CHECKING:
    from ._session import Session


# A thread that waits for its turn looks this often by itself: a handler may have raised before it was woken.
_LOOK_S = 0.1


class Turns:
    """Where this process's threads take turns for one lock, which belongs to the process and refuses a second thread.

    Handlers that raise may interrupt any of this where a function of Python begins or ends, and threading.Condition is
    made of such functions. So the turn is given by one assignment, and taken under a lock of the interpreter's.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sleepers: list[threading.Event] = []
        self.thread: Optional[int] = None
        self.locked = False

    def take(self, name: str, timeout_s: Optional[float]) -> bool:
        own = threading.get_ident()
        if self.thread == own:
            raise Error("DSM_BUSY", f'this thread has lock "{name}" already')
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            return self._await(own, end_s)
        except BaseException:
            if self.thread == own:
                self.thread = None
            raise

    def _await(self, own: int, end_s: Optional[float]) -> bool:
        woken: Optional[threading.Event] = None
        try:
            while True:
                with self._guard:
                    if self.thread is None:
                        self.thread = own
                        return True
                    if woken is None:
                        woken = threading.Event()
                        self._sleepers.append(woken)
                left_s = _LOOK_S if end_s is None else min(_LOOK_S, end_s - time.monotonic())
                if left_s <= 0:
                    return False
                woken.wait(left_s)
                woken.clear()
        finally:
            if woken is not None and woken in self._sleepers:
                self._sleepers.remove(woken)

    def wake(self) -> None:
        """Called after `thread` was set to None."""
        for sleeper in list(self._sleepers):
            sleeper.set()


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
        self._encoded = _arguments.text("name", name)
        self.name = name
        if recover is not None and not callable(recover):
            _arguments.wrong_type("recover", recover, "a function without arguments, or None")
        self._recover = recover
        self._turns = session._turns_of(self._encoded)

    def __repr__(self) -> str:
        held = ", taken by this process" if self._turns.locked else ""
        return f'<dsm.Lock "{self.name}" of session "{self._session.name}"{held}>'

    def acquire(self, *unnamed: NoReturn, timeout: Optional[float] = None, timeout_ms: Optional[int] = None) -> Literal[True]:
        """Takes the lock; raises dsm.Timeout if it was not free within `timeout` seconds (or `timeout_ms`)."""
        limit_ms = _arguments.milliseconds(timeout, timeout_ms, unnamed)
        if not self._take(limit_ms):
            raise Timeout("DSM_TIMEOUT", f'lock "{self.name}" was not free within {limit_ms} ms')
        return True

    def try_acquire(self) -> bool:
        """Takes the lock if it is free, else returns False."""
        return self._take(0, try_only=True)

    def _call(self, limit_ms: int, end_s: float, try_only: bool) -> int:
        library, session = load(), self._session
        if try_only:
            return wait(session, library.dsm_lock_try, self._encoded, undo=self._undo)
        if limit_ms < 0:
            return wait(session, library.dsm_lock, self._encoded, undo=self._undo)
        left_ms = min(max(0, math.ceil((end_s - time.monotonic()) * 1000)), limit_ms)
        return wait(session, library.dsm_lock_timed, self._encoded, left_ms, undo=self._undo)

    def _take(self, limit_ms: int, try_only: bool = False) -> bool:
        self._session._check_open()
        turns = self._turns
        end_s = time.monotonic() + limit_ms / 1000
        if not turns.take(self.name, None if limit_ms < 0 else limit_ms / 1000):
            return False
        try:
            status = self._call(limit_ms, end_s, try_only)
            # From here to the end of acquire() nothing is called: Python runs handlers at calls, and one that raises
            # there would leave the lock taken by a caller that does not know.
            if status == OK or status == OWNER_DIED:
                turns.locked = True
        finally:
            if not turns.locked:
                turns.thread = None
                turns.wake()
        if status == OK:
            return True
        if status == AGAIN or status == TIMEOUT:
            return False
        if status != OWNER_DIED:
            raise reason_of(status)
        self._mend()
        return True

    def _undo(self, status: int) -> None:
        unlock = load().dsm_unlock if status == OK else load().dsm_unlock_unmended
        unlock(self._session._handle, self._encoded)

    def _mend(self) -> None:
        try:
            if self._recover is None:
                raise OwnerDied("DSM_OWNER_DIED", str(reason_of(OWNER_DIED)))
            self._recover()
        except BaseException:
            self._release_after_failure()
            raise

    def release(self, mended: bool = True) -> None:
        """Gives the lock to the next. `mended` False: where its last owner died, the next one is told, too."""
        unlock = load().dsm_unlock if mended else load().dsm_unlock_unmended
        locked, self._turns.locked = self._turns.locked, False
        try:
            check(unlock(self._session._pointer, self._encoded))
        finally:
            if locked:
                self._turns.thread = None
                self._turns.wake()

    def _release_after_failure(self) -> None:
        # The error under way says more than that the lock is gone, too.
        try:
            self.release(mended=False)
        except Error:
            pass

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self._release_after_failure()
