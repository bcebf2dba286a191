"""NumPy arrays over the map."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

from . import _arguments
from ._errors import InvalidValue
from ._library import size_advice

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    # NumPy says that its arrays are buffers from Python 3.12 on.
    Memory = Union[Buffer, np.ndarray[Any, Any]]

Shape = Union[int, Sequence[int]]
_LENGTH_MAX = 2**63 - 1


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ImportError(
            f"arrays need NumPy ({error}): pip install numpy; session.named() and session.buffer do without"
        ) from None
    return numpy


def sizes(dtype: npt.DTypeLike, shape: Shape) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """The type of the elements, the length of each dimension, and the bytes of an array."""
    numpy = _numpy()
    try:
        kind = numpy.dtype(dtype)
    except (TypeError, ValueError) as error:
        _arguments.wrong_type("dtype", dtype, f"a type of NumPy, such as np.float64 ({error})")
    if kind.hasobject:
        _arguments.wrong_type("dtype", dtype, "one of plain bytes: Python's objects belong to one process")
    if kind.itemsize == 0:
        _arguments.wrong_value("dtype", dtype, "one whose elements have 1 byte or more")
    needed = "a whole number from 0 on, or a tuple of them"
    given: Any = shape
    if isinstance(given, (str, bytes)):
        _arguments.wrong_type("shape", given, needed)
    try:
        lengths = tuple(given)
    except TypeError:
        lengths = (given,)
    total = kind.itemsize
    for at, length in enumerate(lengths):
        number = _arguments.whole("shape" if lengths == (given,) else f"shape[{at}]", length, _LENGTH_MAX, needed=needed)
        total *= number
    return kind, tuple(int(length) for length in lengths), total


def over(
    buffer: memoryview, kind: np.dtype[Any], lengths: tuple[int, ...], offset: int, made: dict[int, weakref.ref[Any]]
) -> np.ndarray[Any, Any]:
    """An array over the buffer; `made` knows it as long as it exists."""
    numpy = _numpy()
    count = 1
    for length in lengths:
        count *= length
    if offset % kind.alignment:
        _arguments.wrong_value("offset", offset, f"a multiple of {kind.alignment}, to which {kind} is aligned")
    nbytes = count * kind.itemsize
    if offset + nbytes > buffer.nbytes:
        elements = f"{count} {kind} {'element' if count == 1 else 'elements'}"
        raise InvalidValue(
            "DSM_INVALID",
            f"an array of {elements} at byte {offset} needs {offset + nbytes} bytes, and the map has {buffer.nbytes}; "
            f"{size_advice(offset + nbytes)}",
        )
    array: np.ndarray[Any, Any] = numpy.ndarray(lengths, kind, buffer=buffer, offset=offset)
    key = id(array)
    made[key] = weakref.ref(array, lambda _: made.pop(key, None))
    return array


def make_read_only(made: dict[int, weakref.ref[Any]]) -> None:
    """For arrays over a map that the process leaves: a store is an error of NumPy's then."""
    for reference in list(made.values()):
        array = reference()
        if array is not None:
            array.flags.writeable = False
    made.clear()
