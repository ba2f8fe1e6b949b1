"""What the generators know about a processor: vector width, number of registers, sizes of the caches."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import platform
from dataclasses import dataclass, replace

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


@dataclass(frozen=True)
class Machine:
    """A processor to generate code for.

    `cpu` and `features` are LLVM's words; `l1` and `l2` are bytes of one core's caches; `workers` is the most threads
    that one call uses, which sizes the memory that each of them has for itself.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 512 << 10
    workers: int = 1

    def lanes(self, dtype: str = "float32") -> int:
        """How many numbers of this type one vector register holds."""
        return self.vector_bytes // (8 if dtype == "float64" else 4)


# Without avx512f and with 256-bit vectors, an AVX-512 machine runs the code of the second one too.
AVX512 = Machine("avx512", X86, "skylake-avx512", "-prefer-256-bit", 64, 32)
AVX2 = Machine("avx2", X86, "haswell", "", 32, 16)
NEON = Machine("neon", ARM, "generic", "+neon", 16, 32)


@functools.cache
def host() -> Machine | None:
    """The machine that this process runs on, or None where no generator knows it."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if platform.machine().lower() in ("x86_64", "amd64"):
        if features.get("avx512f") and features.get("avx512vl"):
            kind = AVX512
        elif features.get("avx2") and features.get("fma"):
            kind = AVX2
        else:
            return None
    elif platform.machine().lower() in ("arm64", "aarch64"):
        kind = NEON
    else:
        return None
    words = ",".join(filter(None, (features.flatten(), "-prefer-256-bit" if kind is AVX512 else "")))
    return replace(
        kind,
        triple=llvm.get_process_triple(),
        cpu=llvm.get_host_cpu_name(),
        features=words,
        l1=_cache_bytes(1, 32 << 10),
        l2=_cache_bytes(2, 512 << 10),
        workers=worker_count(),
    )


def worker_count() -> int:
    """The cores that this process may use, which is how many threads XLA's pool has at most."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cache_bytes(level: int, otherwise: int) -> int:
    """The size of the data cache of this level, as Linux tells it."""
    for index in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        with contextlib.suppress(OSError, ValueError):
            kind = (index / "type").read_text().strip()
            if kind != "Instruction" and int((index / "level").read_text()) == level:
                return int((index / "size").read_text().strip().removesuffix("K")) << 10
    return otherwise
