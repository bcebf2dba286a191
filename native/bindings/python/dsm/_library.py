"""libdsm: where it is, its calls, and the exceptions for their statuses."""

from __future__ import annotations

import ctypes
import os
import shutil
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_ssize_t, c_uint32, c_uint64, c_void_p
from typing import Any, Optional

from ._errors import Error, error_of

OK, AGAIN, TIMEOUT, OWNER_DIED = 0, 1, 2, 19


class Config(ctypes.Structure):
    """struct dsm_config."""

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


_session = c_void_p
_CALLS: list[tuple[str, Any, list[Any]]] = [
    ("dsm_config_init", c_int, [POINTER(Config)]),
    ("dsm_open", c_int, [POINTER(Config), POINTER(_session)]),
    ("dsm_close", c_int, [_session]),
    ("dsm_rank", c_int, [_session]),
    ("dsm_processes", c_int, [_session]),
    ("dsm_address", c_void_p, [_session]),
    ("dsm_size", c_size_t, [_session]),
    ("dsm_node", c_char_p, [_session]),
    ("dsm_name", c_char_p, [_session]),
    ("dsm_order", c_char_p, [_session]),
    ("dsm_on_loss", c_char_p, [_session]),
    ("dsm_is_direct", c_int, [_session]),
    ("dsm_barrier_wait", c_int, [_session]),
    ("dsm_barrier_timed", c_int, [_session, c_uint32]),
    ("dsm_fence", c_int, [_session]),
    ("dsm_sem_wait", c_int, [_session, c_char_p, c_uint32]),
    ("dsm_sem_trywait", c_int, [_session, c_char_p, c_uint32]),
    ("dsm_sem_timedwait", c_int, [_session, c_char_p, c_uint32, c_uint32]),
    ("dsm_sem_post", c_int, [_session, c_char_p, c_uint32]),
    ("dsm_lock", c_int, [_session, c_char_p]),
    ("dsm_lock_try", c_int, [_session, c_char_p]),
    ("dsm_lock_timed", c_int, [_session, c_char_p, c_uint32]),
    ("dsm_unlock", c_int, [_session, c_char_p]),
    ("dsm_unlock_unmended", c_int, [_session, c_char_p]),
    ("dsm_hole_dig", c_int, [_session, c_void_p, c_size_t, POINTER(c_int)]),
    ("dsm_hole_fill", c_int, [_session, c_int]),
    ("dsm_alloc", c_int, [_session, c_size_t, c_size_t, POINTER(c_void_p)]),
    ("dsm_free", c_int, [_session, c_void_p]),
    ("dsm_named", c_int, [_session, c_char_p, c_size_t, POINTER(c_void_p)]),
    ("dsm_wait_while", c_int, [_session, c_void_p, c_size_t, c_uint64, c_int32]),
    ("dsm_wake", c_int, [_session, c_void_p, c_uint32, POINTER(c_uint32)]),
    ("dsm_mutex_lock", c_int, [c_void_p]),
    ("dsm_mutex_trylock", c_int, [c_void_p]),
    ("dsm_mutex_timedlock", c_int, [c_void_p, c_uint32]),
    ("dsm_mutex_unlock", c_int, [c_void_p]),
    ("dsm_mutex_unlock_unmended", c_int, [c_void_p]),
    ("dsm_rwlock_rdlock", c_int, [c_void_p]),
    ("dsm_rwlock_tryrdlock", c_int, [c_void_p]),
    ("dsm_rwlock_timedrdlock", c_int, [c_void_p, c_uint32]),
    ("dsm_rwlock_wrlock", c_int, [c_void_p]),
    ("dsm_rwlock_trywrlock", c_int, [c_void_p]),
    ("dsm_rwlock_timedwrlock", c_int, [c_void_p, c_uint32]),
    ("dsm_rwlock_unlock", c_int, [c_void_p]),
    ("dsm_rwlock_unlock_unmended", c_int, [c_void_p]),
    ("dsm_cond_wait", c_int, [c_void_p, c_void_p]),
    ("dsm_cond_timedwait", c_int, [c_void_p, c_void_p, c_uint32]),
    ("dsm_cond_signal", c_int, [c_void_p]),
    ("dsm_cond_broadcast", c_int, [c_void_p]),
    ("dsm_semaphore_init", c_int, [c_void_p, c_uint32]),
    ("dsm_semaphore_wait", c_int, [c_void_p]),
    ("dsm_semaphore_trywait", c_int, [c_void_p]),
    ("dsm_semaphore_timedwait", c_int, [c_void_p, c_uint32]),
    ("dsm_semaphore_post", c_int, [c_void_p]),
    ("dsm_barrier_init", c_int, [c_void_p, c_uint32]),
    ("dsm_barrier_arrive_and_wait", c_int, [c_void_p, POINTER(c_int)]),
    ("dsm_barrier_arrive_and_wait_timed", c_int, [c_void_p, c_uint32, POINTER(c_int)]),
    ("dsm_read", c_ssize_t, [c_int, c_void_p, c_size_t]),
    ("dsm_pread", c_ssize_t, [c_int, c_void_p, c_size_t, c_int64]),
    ("dsm_last_error", c_char_p, []),
    ("dsm_status_name", c_char_p, [c_int]),
    ("dsm_size_advice", c_char_p, [c_uint64]),
    # native/src/api/attach.h
    ("dsm_interrupt_waits", c_void_p, [c_void_p]),
    ("dsm_forgive_stores", c_int, [_session]),
]

_HERE = os.path.dirname(os.path.realpath(__file__))


def _sources() -> list[str]:
    """The folders with pyproject.toml that this package may come from: around it, or where pip has installed it from."""
    folders = [os.path.dirname(_HERE)]
    try:
        with open(os.path.join(_HERE, "installed-from.txt"), encoding="utf-8") as file:
            folders.append(file.read().strip())
    except OSError:
        pass
    return folders


def _candidates() -> list[tuple[str, Optional[str]]]:
    """Files that may be the library, the best first, each with the dsm program that belongs to it, if libdsm would not
    find that by itself."""
    found: list[tuple[str, Optional[str]]] = []
    for folder in _sources():
        # A checkout has the package in native/bindings/python, `dsm install` puts it into PREFIX/share/dsm/python.
        found.append(
            (os.path.join(folder, "../../build/libdsm.so"), os.path.abspath(os.path.join(folder, "../../../dist/dsm")))
        )
        found.append((os.path.join(folder, "../../../lib/libdsm.so.0"), None))
    program = shutil.which("dsm")
    if program is not None:
        folder = os.path.dirname(os.path.realpath(program))
        found.append((os.path.join(folder, "../lib/libdsm.so.0"), None))
        found.append((os.path.join(folder, "../native/build/libdsm.so"), None))
    return [(os.path.abspath(path), program) for path, program in found]


_loaded: Any = None
program: Optional[str] = None
"""The dsm program that belongs to the library, if the library would not find it by itself."""


def load() -> Any:
    """libdsm, loaded at its first use."""
    global _loaded
    if _loaded is None:
        _loaded = _open()
    return _loaded


def _open() -> ctypes.CDLL:
    global program
    given = os.environ.get("DSM_LIBRARY")
    # What is called libdsm.so in a prefix is a script for the linker.
    name = "libdsm.so.0"
    looked: list[str] = []
    path = given
    if not path:
        for candidate, belongs in _candidates():
            looked.append(candidate)
            if os.path.exists(candidate):
                path, program = candidate, belongs if belongs is not None and os.path.exists(belongs) else None
                break
    try:
        library = ctypes.CDLL(path or name, use_errno=True)
    except OSError as error:
        if path:
            hint = "set DSM_LIBRARY to the path of libdsm.so.0" if given else "install dsm again"
            raise Error("DSM_SYSTEM", f"cannot load {path} ({error}); {hint}") from None
        where = ", ".join([*dict.fromkeys(looked), f"{name} where the system looks"])
        raise Error(
            "DSM_SYSTEM",
            "cannot find libdsm: run `dsm install`, or build the checkout (npm install && npm run build), "
            f"or set DSM_LIBRARY to the path of libdsm.so.0 (not there: {where})",
        ) from None
    for call, result, arguments in _CALLS:
        try:
            function = getattr(library, call)
        except AttributeError:
            raise Error(
                "DSM_VERSION",
                f"{path or name} has no {call}: it is of another version than the Python package in {_HERE}; "
                "install both from one dsm",
            ) from None
        function.restype, function.argtypes = result, arguments
    return library


def reason_of(status: int) -> Error:
    """The exception for the status that the last call of this thread has returned."""
    library = load()
    return error_of(library.dsm_status_name(status).decode(), library.dsm_last_error().decode("utf-8", "replace"))


def size_advice(nbytes: int) -> str:
    """What to do where the map must have so many bytes, for the end of a message."""
    advice: bytes = load().dsm_size_advice(min(nbytes, 2**64 - 1))
    return advice.decode()


def check(status: int) -> None:
    if status != OK:
        raise reason_of(status)
