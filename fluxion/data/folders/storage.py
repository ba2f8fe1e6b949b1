"""Where Pillow keeps the pixels of an image: read in place, since to copy them takes as long as to resize them."""

from __future__ import annotations

import ctypes
from typing import Any


class _ArrowArray(ctypes.Structure):
    """`struct ArrowArray` of the Arrow C data interface, as far as it is needed."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def colour_pixels(image: Any) -> tuple[int, Any] | None:
    """The address of an RGB image's pixels, four bytes each, and what keeps them in memory while it lives.

    None for images of other modes, those that lie in several pieces (from 16 MiB on), and before Pillow 11.2.
    """
    if image.mode != "RGB" or not hasattr(image, "__arrow_c_array__"):
        return None
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:
        return None
    array = ctypes.cast(_pointer(capsule, b"arrow_array"), ctypes.POINTER(_ArrowArray)).contents
    return array.children[0].contents.buffers[1], (image, capsule)
