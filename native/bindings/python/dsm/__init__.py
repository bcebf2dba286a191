"""dsm for Python: processes on one machine or many share one memory space.

    import dsm, numpy as np

    with dsm.join() as session:                    # settings from DSM_*, which `dsm run` sets
        grid = session.array("grid", np.float64, (1024, 1024))  # the same block in every process
        grid[session.rank] += 1.0                  # a plain write, shared by all
        session.barrier()

Writing through a NumPy array, a memoryview or ctypes is the whole interface: stores are caught by libdsm and seen by
every process of the session, as its order says (see dsm.h). Python's own atomicity stops at one process: use
Session.lock() for read-modify-write.

Every failure is a dsm.Error with a `code` such as "DSM_LOST". A wrong argument is a ValueError or TypeError as well,
and a wait whose time is over a TimeoutError. Calls that wait give the interpreter's lock back, and have a `timeout` in
seconds, or `timeout_ms`, 0 to 2147483647; left out, they wait for as long as it takes. A time must be named: wait(2) is a
TypeError. In the main thread ^C ends a wait at once, and so does any signal handler that raises.

libdsm is taken from DSM_LIBRARY, which `dsm run` sets; else from where this package comes from, a built checkout or
what `dsm install` has put under a prefix; else from beside the `dsm` in the PATH, or where the system looks. Under
`dsm run` signals may be blocked and handlers set (signal.pthread_sigmask, faulthandler.enable) at any time. Without it
do so before joining, or start Python with LD_PRELOAD=libdsm.so: afterwards a blocked SIGSEGV or a handler for it ends
the process at its next store.
"""

from ._errors import Error, InvalidType, InvalidValue, OwnerDied, Timeout
from ._hole import Hole
from ._join import join
from ._lock import Lock
from ._objects import OBJECT_SIZE, MapBarrier, MapCond, MapMutex, MapRwlock, MapSemaphore
from ._semaphore import Semaphore
from ._session import Session

__all__ = [
    "Error",
    "Hole",
    "InvalidType",
    "InvalidValue",
    "Lock",
    "MapBarrier",
    "MapCond",
    "MapMutex",
    "MapRwlock",
    "MapSemaphore",
    "OBJECT_SIZE",
    "OwnerDied",
    "Semaphore",
    "Session",
    "Timeout",
    "join",
]

# As programs and tracebacks name them.
for _public in (
    *(Error, Hole, InvalidType, InvalidValue, Lock, OwnerDied, Semaphore, Session, Timeout, join),
    *(MapBarrier, MapCond, MapMutex, MapRwlock, MapSemaphore),
):
    _public.__module__ = __name__
del _public
