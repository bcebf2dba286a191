"""Arguments: each is checked before it reaches ctypes, which would cut numbers and raise errors of its own."""

from __future__ import annotations

import ctypes
import math
from typing import Any, NoReturn, Optional

from ._errors import InvalidType, InvalidValue

TIMEOUT_MAX_MS = 2**31 - 1
COUNT_MAX = 2**32 - 1
BYTES_MAX = 2**63
"""The library refuses it; greater numbers would be taken modulo 2**64."""
_SHOWN_MAX = 60

# Formats of memoryviews whose elements are whole numbers.
_INTEGERS = frozenset("?bBhHiIlLqQnN")


def shown(value: object) -> str:
    """The value for a message, with its type: not every `1` is an int."""
    try:
        text = repr(value)
    except Exception:
        text = "(no repr)"
    if len(text) > _SHOWN_MAX:
        text = f"{text[:_SHOWN_MAX]}..."
    return text if value is None else f"{text} ({type(value).__name__})"


def wrong_type(what: str, value: object, needed: str) -> NoReturn:
    raise InvalidType("DSM_INVALID", f"{what} is {shown(value)}; give {needed}") from None


def wrong_value(what: str, value: object, needed: str) -> NoReturn:
    raise InvalidValue("DSM_INVALID", f"{what} is {shown(value)}; give {needed}") from None


def whole(what: str, value: Any, most: int, least: int = 0, needed: Optional[str] = None) -> int:
    """A whole number: an int, or what stands for one, as NumPy's do."""
    needed = needed or f"a whole number from {least} to {most}"
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        wrong_type(what, value, needed)
    if not least <= number <= most:
        wrong_value(what, value, needed)
    return int(number)


def nbytes(what: str, value: Any) -> int:
    """A number of bytes; the library says which are too many."""
    return min(whole(what, value, 2**1024, needed="a whole number of bytes"), BYTES_MAX)


def flag(what: str, value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return int(value)
    wrong_type(what, value, "True or False")


def text(what: str, value: Any) -> bytes:
    """A name or path. What is not valid UTF-8 is refused by the library, in its words."""
    if not isinstance(value, str):
        wrong_type(what, value, "a str")
    encoded = value.encode("utf-8", "surrogatepass")
    if b"\0" in encoded:
        wrong_value(what, value, "one without the control character U+0000")
    return encoded


def milliseconds(timeout: Any, timeout_ms: Any, unnamed: tuple[Any, ...] = ()) -> int:
    """The limit of a wait, from seconds or milliseconds; -1: there is none.

    `unnamed`: what the call was given without a name. A time is refused there, since it could be in either unit.
    """
    if len(unnamed) > 1:
        raise InvalidType("DSM_INVALID", f"{len(unnamed)} arguments too many, from {shown(unnamed[0])} on")
    if unnamed:
        raise InvalidType(
            "DSM_INVALID",
            f"{shown(unnamed[0])} has no unit; give timeout=SECONDS, or timeout_ms=MILLISECONDS",
        )
    if timeout is None:
        if timeout_ms is None:
            return -1
        if isinstance(timeout_ms, float):
            wrong_type("timeout_ms", timeout_ms, "a whole number of milliseconds, or timeout=SECONDS")
        return whole("timeout_ms", timeout_ms, TIMEOUT_MAX_MS)
    if timeout_ms is not None:
        wrong_type("timeout_ms", timeout_ms, "it or timeout, not both")
    return seconds("timeout", timeout)


def seconds(what: str, value: Any, most_ms: int = TIMEOUT_MAX_MS) -> int:
    """A number of seconds in milliseconds, rounded up: no wait ends before its time."""
    needed = f"a number of seconds from 0 to {most_ms / 1000!r}, or leave it out to wait for as long as it takes"
    if isinstance(value, (str, bytes, bytearray)):
        wrong_type(what, value, needed)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        wrong_type(what, value, needed)
    if not 0 <= number * 1000 <= most_ms:  # NaN is not
        wrong_value(what, value, needed)
    return math.ceil(number * 1000)


def memory(what: str, array: Any) -> memoryview:
    """The bytes that an array or memoryview lies over, in its own shape."""
    needed = "a NumPy array or a memoryview over the map"
    try:
        view = memoryview(array)
    except TypeError:
        wrong_type(what, array, needed)
    except ValueError as error:  # of a released memoryview; of elements that have no format
        wrong_type(what, array, f"{needed} ({error})")
    if not view.c_contiguous:
        wrong_value(what, array, f"{needed} that is contiguous")
    if view.readonly:
        wrong_value(what, array, f"{needed} that can be written to")
    return view


def address_of(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view.nbytes else 0


def place(array: Any, index: Any) -> tuple[int, int]:
    """The address and width of element `index` of an array of whole numbers."""
    view = memory("array", array)
    if view.format.lstrip("@=<") not in _INTEGERS:
        wrong_type("array", array, "an array of whole numbers, as np.int32 or memoryview.cast('i') have them")
    count = view.nbytes // view.itemsize
    if count == 0:
        wrong_value("array", array, "one that is not empty")
    return address_of(view) + whole("index", index, count - 1) * view.itemsize, view.itemsize
