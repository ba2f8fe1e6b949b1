"""Whether kernels can be generated here, and for which machine."""

from __future__ import annotations

import functools
import os
import warnings

from fluxion.errors import FluxionWarning
from fluxion.kernels import abi
from fluxion.kernels.machine import Machine, host


class KernelNotice(FluxionWarning):
    """Generated kernels cannot be used, so that XLA's own operations run instead; given once.

    >>> import fluxion as fx, warnings
    >>> warnings.simplefilter("error", fx.kernels.KernelNotice)  # makes it an error
    """


@functools.cache
def usable_machine() -> Machine | None:
    """The machine to generate kernels for, or None where XLA's own operations are to be used.

    None with FLUXION_KERNELS=0 and on processors that the generators do not know. Where llvmlite is missing or XLA's
    interface is not as expected, one KernelNotice says so.
    """
    if os.environ.get("FLUXION_KERNELS") == "0":
        return None
    try:
        machine = host()
        if machine is not None:
            abi.check()
        return machine
    except (ImportError, OSError) as error:  # OSError: a library that the system cannot load
        reason = f"llvmlite cannot be used ({error}); pip install llvmlite"
    except abi.Mismatch as error:
        reason = str(error)
    warnings.warn(KernelNotice(f"generated CPU kernels are off, XLA's own operations run: {reason}"), stacklevel=2)
    return None
