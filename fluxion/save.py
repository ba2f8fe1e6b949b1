"""Files: a safetensors file holds the arrays, its header in JSON everything else. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat
import uuid
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fluxion.layers.lazy import check_sized
from fluxion.state import loadmodel, state

_HEADER = "fluxion"
_VERSION = 1
# types that every version of safetensors stores; others are stored as the numbers or bytes that they consist of
_STORED = re.compile("bool|u?int(8|16|32|64)|b?float16|float(32|64)")
_AS_PAIRS = {"complex64": "float32", "complex128": "float64"}


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Writes the state of a model, an optimiser, or a container of such things and numbers, to a file.

    The file is in the safetensors format, with one entry for each array, named by its path; what else `state` gives
    stands in its header as JSON. A file of that name is replaced in one step, once the new one is complete. Training
    resumes exactly where `fx.random.generator()`, the random numbers of dropout and shuffling, is saved too.
    TypeError for arrays that cannot be written, such as typed random keys, objects, or those of a traced function;
    ValueError for layers that have no sizes yet.

    >>> import fluxion as fx, os, tempfile
    >>> model = fx.Dense(3, 2)
    >>> opt = fx.setup(fx.Adam(1e-3), model)
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> fx.save(path, {"model": model, "opt": opt, "epoch": 3})
    >>> fx.load(path, {"model": model, "opt": opt})["epoch"]
    3
    """
    check_sized(tree, "save")
    writer = _Writer()
    header = json.dumps({"version": _VERSION, "tree": writer.encode(state(tree), "")})
    path = pathlib.Path(os.path.realpath(path))  # a link stays a link
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")
    unfinished.touch()
    try:
        mode = (path if path.exists() else unfinished).stat().st_mode
        save_file(writer.arrays, unfinished, {_HEADER: header})  # makes a file that nobody else may read
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(unfinished, stat.S_IMODE(mode))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], into: Any = None) -> Any:
    """What `save` wrote, as plain containers with NumPy arrays; `into` are objects that take it up, as by `loadmodel`.

    `into` has the form of what was saved: a model, or a dict of models and optimiser states, which may leave out
    some entries of a saved dict. ValueError where `into` and the file do not fit, which changes nothing, and for
    files that are cut off or that `save` did not write.

    >>> import fluxion as fx, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "numbers.safetensors")
    >>> fx.save(path, {"losses": [0.5, 0.25], "weight": jnp.ones(2)})
    >>> fx.load(path)
    {'losses': [0.5, 0.25], 'weight': array([1., 1.], dtype=float32)}
    """
    tree = _read(pathlib.Path(path))
    if into is not None:
        partial = type(into) is dict and type(tree) is dict
        loadmodel(into, {key: value for key, value in tree.items() if key in into} if partial else tree)
    return tree


def _read(path: pathlib.Path) -> Any:
    with open(path, "rb"):
        pass  # a folder, or what cannot be read, is an error of the system
    try:
        with safe_open(path, "np") as file:
            header = (file.metadata() or {}).get(_HEADER)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from None
    if header is None:
        raise ValueError(
            f"{path} was not written by fluxion.save; safetensors.numpy.load_file reads its arrays as a dict"
        )
    try:
        content = json.loads(header)
        if content["version"] <= _VERSION:
            return _decoded(content["tree"], arrays)
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{path} was not written by fluxion.save, or changed since: {error!r}") from None
    raise ValueError(f"{path} was written by a newer version of Fluxion; pip install -U fluxion-ml")


class _Writer:
    """Turns a state into JSON: lists stay lists, everything that JSON lacks becomes a dict of one entry."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.known: dict[int, tuple[Any, Any]] = {}

    def encode(self, x: Any, path: str) -> Any:
        if x is None or isinstance(x, (bool, int, float, str)):
            return x
        if isinstance(x, complex):
            return {"complex": [x.real, x.imag]}
        if isinstance(x, list):
            return self.entries(x, path)
        if isinstance(x, tuple):
            return {"tuple": self.entries(x, path)}
        if isinstance(x, dict):
            items = [[self.encode(key, path), self.encode(value, f"{path}.{key}")] for key, value in x.items()]
            return {"dict": items}
        if id(x) not in self.known:
            self.known[id(x)] = x, self.array(x, path.removeprefix("."))
        return self.known[id(x)][1]

    def entries(self, x: Any, path: str) -> list[Any]:
        return [self.encode(value, f"{path}.{i}") for i, value in enumerate(x)]

    def array(self, x: Any, path: str) -> dict[str, str]:
        if isinstance(x, jax.core.Tracer) or not hasattr(x, "dtype") or jnp.issubdtype(x.dtype, jax.dtypes.extended):
            raise TypeError(
                f"save cannot write {type(x).__name__} at {path or 'the top'}, which has no numbers to write"
            )
        array = np.asarray(x, order="C")
        dtype = array.dtype.str if array.dtype.kind in "SUmM" else array.dtype.name
        if array.dtype.hasobject or array.dtype.names:
            raise TypeError(f"save cannot write an array of {array.dtype} at {path or 'the top'}, only plain numbers")
        name = (path or "array").encode(errors="backslashreplace").decode()
        while name in self.arrays or name == "__metadata__":
            name += "'"
        if _STORED.fullmatch(dtype):
            self.arrays[name] = array
            return {"array": name}
        self.arrays[name] = array[..., None].view(_AS_PAIRS.get(dtype, "uint8"))
        return {"array": name, "dtype": dtype}


def _decoded(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(x, list):
        return [_decoded(value, arrays) for value in x]
    if not isinstance(x, dict):
        return x
    if "array" in x:
        array = arrays[x["array"]]
        return array.view(np.dtype(x["dtype"]))[..., 0] if "dtype" in x else array
    if "complex" in x:
        return complex(*x["complex"])
    if "tuple" in x:
        return tuple(_decoded(x["tuple"], arrays))
    return {_decoded(key, arrays): _decoded(value, arrays) for key, value in x["dict"]}
