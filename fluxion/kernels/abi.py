"""Where the fields of XLA's call frames lie, read from the header that the installed XLA ships.

A handler that is written in C takes the layout of these structs from that header; ours, which is written in LLVM's
language, does the same. So the layout is never out of date, and a header that no longer has what is needed turns the
kernels off.
"""

from __future__ import annotations

import functools
import pathlib
import re
from dataclasses import dataclass

_COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRUCTS = re.compile(r"struct\s+(\w+)\s*\{([^{}]*)\}")
_ENUMS = re.compile(r"typedef\s+enum\s*\{([^{}]*)\}\s*(\w+)\s*;")
_SCALARS = {"size_t": 8, "int64_t": 8, "uint64_t": 8, "int": 4, "int32_t": 4, "uint32_t": 4}
_FUNCTION_FIELD = re.compile(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)")


class Mismatch(Exception):
    """The installed XLA does not have what the generated code needs."""


@dataclass(frozen=True)
class Layout:
    """Bytes of a struct, and where each of its fields starts."""

    size: int
    offsets: dict[str, int]


class Header:
    """The structs, enumerations and version of `xla/ffi/api/c_api.h`."""

    def __init__(self, text: str) -> None:
        self._text = _COMMENTS.sub("", text)
        self._bodies = dict(_STRUCTS.findall(self._text))
        self._enums = {name: body for body, name in _ENUMS.findall(self._text)}
        self._layouts: dict[str, Layout] = {}

    def version(self) -> tuple[int, int]:
        """Major and minor version of the interface."""
        return self._define("XLA_FFI_API_MAJOR"), self._define("XLA_FFI_API_MINOR")

    def _define(self, name: str) -> int:
        found = re.search(rf"#define\s+{name}\s+(\d+)", self._text)
        if not found:
            raise Mismatch(f"XLA's header defines no {name}")
        return int(found[1])

    def value(self, name: str) -> int:
        """The number of an enumeration's member."""
        found = re.search(rf"\b{name}\s*=\s*(\d+)", self._text)
        if not found:
            raise Mismatch(f"XLA's header has no {name}")
        return int(found[1])

    def offset(self, struct: str, field: str) -> int:
        """Where a field starts within its struct, in bytes; "args.size" is a field of a field."""
        first, _, rest = field.partition(".")
        layout = self.layout(struct)
        if first not in layout.offsets:
            raise Mismatch(f"XLA's {struct} has no field {first}")
        kind = dict((name, kind) for kind, name in self._fields(struct))[first]
        return layout.offsets[first] + (self.offset(kind, rest) if rest else 0)

    def layout(self, struct: str) -> Layout:
        """The layout of a struct by the rules of C on a 64-bit machine."""
        if struct not in self._layouts:
            place, widest, offsets = 0, 1, {}
            for kind, name in self._fields(struct):
                size, alignment = self._extent(kind)
                place = -(-place // alignment) * alignment
                offsets[name] = place
                place, widest = place + size, max(widest, alignment)
            self._layouts[struct] = Layout(-(-place // widest) * widest, offsets)
        return self._layouts[struct]

    def _fields(self, struct: str) -> list[tuple[str, str]]:
        """Type and name of each field; every pointer has type "*"."""
        if struct not in self._bodies:
            raise Mismatch(f"XLA's header has no struct {struct}")
        fields = []
        for line in self._bodies[struct].split(";"):
            line = line.strip()
            if function := _FUNCTION_FIELD.fullmatch(line):
                fields.append(("*", function[1]))
            elif pointer := re.fullmatch(r".*\(\*(\w+)\)\(.*\)|.*\*\s*(\w+)", line, re.DOTALL):
                fields.append(("*", pointer[1] or pointer[2]))
            elif line:
                kind, name = line.split()[-2:]
                fields.append((kind, name))
        return fields

    def _extent(self, kind: str) -> tuple[int, int]:
        """Bytes and alignment of a type."""
        if kind == "*":
            return 8, 8
        if kind in self._enums:
            return 4, 4
        if kind in _SCALARS:
            return _SCALARS[kind], _SCALARS[kind]
        alias = re.search(rf"typedef\s+(\w+)\s+{kind}\s*;", self._text)
        if alias:
            return self._extent(alias[1])
        alignments = [self._extent(field)[1] for field, _ in self._fields(kind)]
        return self.layout(kind).size, max(alignments)


@functools.cache
def installed() -> Header:
    """The header of the XLA that is installed; Mismatch where there is none, or none that is understood."""
    import jax

    path = pathlib.Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        header = Header(path.read_text())
    except OSError as error:
        raise Mismatch(f"XLA's header cannot be read: {error}") from None
    if header.version()[0] != 0:
        raise Mismatch(f"XLA's interface has major version {header.version()[0]}, the kernels know version 0")
    return header


def check() -> None:
    """Raises a Mismatch unless the installed XLA has all that the bridge uses, where C's rules would put it."""
    header = installed()
    for struct, field in NEEDED:
        header.offset(struct, field)
    for name in ("XLA_FFI_ExecutionStage_EXECUTE", "XLA_FFI_Extension_Metadata", "XLA_FFI_Error_Code_INTERNAL"):
        header.value(name)


NEEDED = (
    ("XLA_FFI_CallFrame", "extension_start"),
    ("XLA_FFI_CallFrame", "api"),
    ("XLA_FFI_CallFrame", "ctx"),
    ("XLA_FFI_CallFrame", "stage"),
    ("XLA_FFI_CallFrame", "args.size"),
    ("XLA_FFI_CallFrame", "args.args"),
    ("XLA_FFI_CallFrame", "rets.size"),
    ("XLA_FFI_CallFrame", "rets.rets"),
    ("XLA_FFI_Buffer", "data"),
    ("XLA_FFI_Metadata_Extension", "extension_base.type"),
    ("XLA_FFI_Metadata_Extension", "metadata"),
    ("XLA_FFI_Metadata", "api_version.major_version"),
    ("XLA_FFI_Metadata", "api_version.minor_version"),
    ("XLA_FFI_Metadata", "traits"),
    ("XLA_FFI_Api", "XLA_FFI_Error_Create"),
    ("XLA_FFI_Api", "XLA_FFI_Error_Destroy"),
    ("XLA_FFI_Api", "XLA_FFI_ThreadPool_Schedule"),
    ("XLA_FFI_Api", "XLA_FFI_ThreadPool_NumThreads"),
    ("XLA_FFI_Error_Create_Args", "message"),
    ("XLA_FFI_Error_Create_Args", "errc"),
    ("XLA_FFI_Error_Destroy_Args", "error"),
    ("XLA_FFI_ThreadPool_Schedule_Args", "task"),
    ("XLA_FFI_ThreadPool_Schedule_Args", "data"),
    ("XLA_FFI_ThreadPool_NumThreads_Args", "num_threads"),
)
