"""Arrays and tables: only where the user's own imports brought them, and never with Python objects inside."""

from __future__ import annotations

import functools
import io
import math
import sys
from typing import Any

from memgang.codec.classes import shown
from memgang.codec.mediatypes import ARROW, NPY, Encoded
from memgang.errors import CodecError

VIEW_FROM_BYTES = 1 << 20  # smaller arrays are copied: they may change as soon as they are put


def frame_kind(value: Any) -> str | None:
    """``NPY`` or ``ARROW`` if the value is an array or a table, without importing anything."""
    for module, names, media_type in (
        ("numpy", ("ndarray",), NPY),
        ("pyarrow", ("Table", "RecordBatch"), ARROW),
        ("pandas", ("DataFrame",), ARROW),
        ("polars", ("DataFrame",), ARROW),
    ):
        loaded = sys.modules.get(module)
        if loaded is not None and any(isinstance(value, getattr(loaded, name, ())) for name in names):
            return media_type
    return None


def encode_frame(value: Any) -> Encoded | None:
    """An array or a table as it is stored; None if the value is neither.

    Raises:
        CodecError: it holds Python objects, or what Arrow cannot hold.
    """
    if type(value).__module__ == "builtins":
        return None
    match frame_kind(value):
        case "application/x-npy":
            return _encode_array(value)
        case None:
            return None
        case _:
            return _encode_table(value)


def _encode_array(array: Any) -> Encoded:
    import numpy

    if type(array) not in (numpy.ndarray, numpy.memmap):
        raise CodecError(f"a {shown(type(array))} would lose what makes it more than an array: "
                         "put numpy.asarray(value), and a mask on its own")
    if array.dtype.hasobject:
        raise CodecError(f"an array of dtype {array.dtype} holds Python objects, which are never pickled: "
                         "give it a dtype, or put .tolist()")
    # C order, so that equal arrays are equal bytes whatever way they were made.
    array = numpy.asarray(array, order="C")
    out = io.BytesIO()
    if array.nbytes >= VIEW_FROM_BYTES:
        try:
            # As `write_array` does it, but for the numbers: they are not copied.
            numpy.lib.format.write_array_header_1_0(out, numpy.lib.format.header_data_from_array_1_0(array))
            return Encoded(NPY, memoryview(array.reshape(-1).view(numpy.uint8)), out.getvalue())
        except ValueError:  # a header of another version
            out = io.BytesIO()
    numpy.lib.format.write_array(out, array, allow_pickle=False)
    return Encoded(NPY, out.getvalue())


def _encode_table(value: Any) -> Encoded:
    pyarrow = _pyarrow(f"a {shown(type(value))}")
    try:
        if isinstance(value, pyarrow.RecordBatch):
            table = pyarrow.Table.from_batches([value])
        elif isinstance(value, pyarrow.Table):
            table = value
        elif type(value).__module__.partition(".")[0] == "polars":
            table = value.to_arrow()
        else:
            table = pyarrow.Table.from_pandas(value)
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            # One chunk, so that how a table was put together does not show in its bytes.
            stream.write_table(table.combine_chunks())
        return Encoded(ARROW, memoryview(sink.getvalue()).cast("B"))
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise CodecError(f"a {shown(type(value))} that Arrow cannot hold: {error}") from error


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
        import pyarrow.ipc  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise CodecError(f"{what} needs PyArrow: pip install pyarrow") from None
    return pyarrow


def decode_array(body: bytes | memoryview) -> Any:
    """The array behind the bytes, a read-only view on them.

    Raises:
        CodecError: they are none, or NumPy is not installed.
    """
    try:
        import numpy
    except ImportError:
        raise CodecError(f"{NPY} needs NumPy: pip install numpy") from None
    try:
        first = bytes(body[:12])
        if first[6:8] == b"\x03\x00":  # field names beyond Latin-1, which NumPy reads only as a whole
            array = numpy.lib.format.read_array(io.BytesIO(bytes(body)), allow_pickle=False)
            array.flags.writeable = False
            return array
        # The header is short; the numbers behind it are never copied.
        length = 4 if first[6:8] == b"\x02\x00" else 2
        at = 8 + length + int.from_bytes(first[8:8 + length], "little")
        shape, fortran, dtype = _header(bytes(body[:at]))
        count = math.prod(shape)
        if len(body) - at != count * dtype.itemsize:
            raise ValueError(f"{len(body) - at:,} bytes of data for shape {shape} of {dtype}")
        # NumPy refuses a view of nothing, so nothing is made anew.
        array = (numpy.frombuffer(body, dtype, count, at) if count * dtype.itemsize
                 else numpy.empty(count, dtype)).reshape(shape, order="F" if fortran else "C")
    except Exception as error:
        raise CodecError(f"the bytes are not {NPY}: {error}") from error
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=256)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Shape, whether it is in Fortran's order, and type. To read it takes longer than to map the array, and most are alike."""
    import numpy

    file = io.BytesIO(head)
    version = numpy.lib.format.read_magic(file)
    read = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} is not known")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    return shape, fortran, dtype


def decode_table(body: bytes | memoryview) -> Any:
    """The Arrow table behind the bytes, a view on them.

    Raises:
        CodecError: they are none, or PyArrow is not installed.
    """
    pyarrow = _pyarrow(ARROW)
    try:
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(body)) as stream:
            table = stream.read_all()
        table.validate()
        return table
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise CodecError(f"the bytes are not {ARROW}: {error}") from error


def numpy_scalar(value: Any) -> bool | int | float | str | None:
    """The Python value of a NumPy scalar that has one, else None."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.bool_ | numpy.integer | numpy.floating | numpy.str_):
        found = value.item()
        # A long double has no Python twin and gives itself back.
        return found if isinstance(found, bool | int | float | str) else None
    return None
