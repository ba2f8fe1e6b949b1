"""The checks of one sample of the catalog: a layer or function, its inputs, and what it must equal."""

from __future__ import annotations

import contextlib
import operator
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import torch

import fluxion as fx
from fluxion.mode import gradient_mode
from fluxion.random import Generator, default_generator

HALF_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1}


def numbers(*shape: int, seed: int = 0, low: float | None = None, high: float = 1.0) -> np.ndarray:
    """Normal numbers, or uniform ones from `low` to `high`, far enough from each other for finite differences."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=shape) if low is None else rng.uniform(low, high, shape))


def check_sample(sample: Any) -> None:
    """Every check on one sample; `check_agreement` holds those that are also made on random samples."""
    check_agreement(sample)
    with jax.numpy_rank_promotion("raise"):
        subject = Subject(sample)
        wide = check_compiled(subject)
        if sample.differences and sample.gradients:
            check_differences(subject)
        check_halves(subject, wide)
        if sample.vmap and not sample.training:
            check_vmap(subject)
    check_saved(subject)
    check_printed(subject)


class Subject:
    """A sample's layer as a function of its arrays and its float inputs; other inputs are constants."""

    def __init__(self, sample: Any) -> None:
        self.sample = sample
        self.layer = sample.make()
        self.entries, self.structure = jax.tree.flatten(sample.inputs)
        self.differentiable = tuple(is_float(entry) for entry in self.entries)
        self.everything = read(slots(self.layer, trainable=False))
        self.trained = [path for path in slots(self.layer) if path in self.everything]
        self.compiled = jax.jit(self.call)

    def inputs(self, floats: Any) -> tuple[Any, ...]:
        """The inputs, with other numbers in place of the floats."""
        rest = iter(floats)
        pairs = zip(self.entries, self.differentiable, strict=True)
        return jax.tree.unflatten(self.structure, [next(rest) if varies else entry for entry, varies in pairs])

    def floats(self, dtype: Any) -> list[Any]:
        return [jnp.asarray(entry, dtype) for entry in self.entries if is_float(entry)]

    def arrays(self, dtype: Any) -> dict[str, Any]:
        return {path: value.astype(dtype) for path, value in self.everything.items()}

    def call(self, values: dict[str, Any], floats: Any) -> list[Any]:
        """The outputs as a list of arrays, with the layer as it was before."""
        with holding(self.layer, values), gradient_mode(self.sample.training), default_generator(Generator(0)):
            return jax.tree.leaves(self.layer(*self.inputs(floats)))

    def of_trained(self, dtype: Any) -> tuple[Callable[..., list[Any]], Any, Any]:
        """The layer as a function of what has a gradient: its trainable arrays and its float inputs."""
        everything = self.arrays(dtype)
        trained = {path: everything[path] for path in self.trained}
        return (lambda p, f: self.call({**everything, **p}, f)), trained, self.floats(dtype)


# ------------------------------------------------------------------ against PyTorch and formulas


def check_agreement(sample: Any) -> None:
    """Values and gradients equal those of PyTorch, values those of a formula, in float64 and float32."""
    if sample.reference is None and sample.expected is None:
        return
    with jax.numpy_rank_promotion("raise"):
        for dtype, tolerance in (("float64", sample.tolerance), ("float32", sample.single)):
            forward, gradient = deviation(sample, dtype)
            assert forward <= tolerance, f"values in {dtype} deviate by {forward:.1e} of the largest"
            assert gradient <= 10 * tolerance, f"gradients in {dtype} deviate by {gradient:.1e} of the largest"


def deviation(sample: Any, dtype: str) -> tuple[float, float]:
    """Worst deviation of the values and of the gradients, relative to the largest entry, from the float64 reference."""
    subject = Subject(sample)
    with precision(dtype):
        function, *point = subject.of_trained(dtype)
        if not sample.gradients or sample.reference is None:
            values, gradients = jax.jit(function)(*point), []
            weights = None
        else:
            weights = [numbers(*output.shape, seed=7) for output in jax.eval_shape(function, *point)]
            values, gradients = _pullback(function, point, weights)
    wanted, wanted_gradients = _reference(subject, weights)
    assert [np.shape(value) for value in values] == [np.shape(value) for value in wanted]
    return _worst(values, wanted), _worst(gradients, wanted_gradients)


def _pullback(function: Callable[..., Any], point: Any, weights: list[np.ndarray]) -> tuple[Any, list[Any]]:
    @jax.jit
    def both(trained: Any, floats: Any) -> Any:
        values, pull = jax.vjp(function, trained, floats)
        return values, pull([jnp.asarray(w, value.dtype) for w, value in zip(weights, values, strict=True)])

    values, (by_path, of_inputs) = both(*point)
    return values, [*(by_path[path] for path in point[0]), *of_inputs]


def _reference(subject: Subject, weights: list[np.ndarray] | None) -> tuple[list[Any], list[Any]]:
    """Values and gradients by PyTorch, or values by a formula, in float64."""
    sample, everything = subject.sample, {p: np.asarray(v, np.float64) for p, v in subject.everything.items()}
    if sample.reference is None:
        return jax.tree.leaves(sample.expected(everything, *sample.inputs)), []
    tensors = {path: torch.tensor(value) for path, value in everything.items()}
    leaves = [torch.tensor(np.asarray(e)) if isinstance(e, np.ndarray) else e for e in subject.entries]
    inputs = jax.tree.unflatten(subject.structure, leaves)
    of = [tensors[path] for path in subject.trained]
    of += [tensor for tensor, entry in zip(leaves, subject.entries, strict=True) if is_float(entry)]
    for tensor in of:
        tensor.requires_grad_(weights is not None)
    values = jax.tree.leaves(sample.reference(tensors, *inputs))
    gradients: Any = []
    if weights is not None:
        seeds = [torch.tensor(w, dtype=v.dtype) for w, v in zip(weights, values, strict=True)]
        pairs = [(value, seed) for value, seed in zip(values, seeds, strict=True) if value.requires_grad]
        outputs, seeds = [value for value, _ in pairs], [seed for _, seed in pairs]
        gradients = torch.autograd.grad(outputs, of, seeds, materialize_grads=True) if of and outputs else []
    return [value.detach().numpy() for value in values], [gradient.numpy() for gradient in gradients]


def _worst(got: list[Any], wanted: list[Any]) -> float:
    """Largest difference over the largest wanted entry; a NaN or infinity where none belongs counts as infinite."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(got, wanted, strict=True)]
    largest = max((np.abs(b[np.isfinite(b)]).max(initial=0) for _, b in pairs), default=0) or 1.0
    worst = 0.0
    for mine, theirs in pairs:
        same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        gap = np.where(same, 0, np.abs(np.where(same, 0, mine) - np.where(same, 0, theirs)))
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max(initial=0)) / float(largest))
    return worst


# ------------------------------------------------------------------ within JAX


def check_compiled(subject: Subject) -> Any:
    """float32 in gives float32 out, and the compiled layer equals the eager one, gradients included."""
    values, floats = subject.arrays("float32"), subject.floats("float32")
    eager, compiled = subject.call(values, floats), subject.compiled(values, floats)
    for one, other in zip(eager, compiled, strict=True):
        assert one.dtype == jnp.float32 or not jnp.issubdtype(one.dtype, jnp.floating)
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
    if subject.sample.gradients and (subject.trained or floats):
        _check_user_gradient(subject, floats)
    return eager


def _check_user_gradient(subject: Subject, floats: Any) -> None:
    """`fx.gradient` of the layer itself equals the gradient that JAX takes of it as a function of its arrays."""
    layer, training = subject.sample.make(), subject.sample.training
    write(slots(layer, trainable=False), subject.arrays("float32"))
    (fx.trainmode if training else fx.testmode)(layer)

    def scalar(model: Any, floats: Any) -> Any:
        return sum(
            jnp.vdot(w, y) for w, y in zip(weights, jax.tree.leaves(model(*subject.inputs(floats))), strict=True)
        )

    function, *point = subject.of_trained("float32")
    weights = [jnp.asarray(numbers(*y.shape, seed=7), y.dtype) for y in jax.eval_shape(function, *point)]
    _, wanted = _pullback(function, point, [np.asarray(w) for w in weights])
    with default_generator(Generator(0)), warnings.catch_warnings():
        warnings.simplefilter("ignore", fx.RecompileWarning)  # this function compiles for every sample
        of_layer, of_inputs = fx.gradient(scalar, layer, floats)
    got = [_entry(of_layer, path) for path in subject.trained] + list(of_inputs or ())
    assert _worst(got, wanted) < 1e-4


def _entry(gradient: Any, path: str) -> Any:
    for name in path.split("."):
        gradient = gradient[int(name)] if isinstance(gradient, list) else (
            gradient[name] if isinstance(gradient, dict) else getattr(gradient, name)
        )  # fmt: skip
    return gradient


def check_differences(subject: Subject) -> None:
    """First and second derivatives along one random direction, in every mode, in a single compiled program."""
    with precision("float64"):
        function, *point = subject.of_trained("float64")
        flat, rebuild = jax.flatten_util.ravel_pytree(point)
        direction = jnp.asarray(numbers(flat.size, seed=5))

        def scalar(at: Any) -> Any:
            outputs = [y for y in function(*rebuild(at)) if jnp.issubdtype(y.dtype, jnp.floating)]
            return sum(jnp.vdot(jnp.asarray(numbers(*y.shape, seed=6)), y) for y in outputs)

        def slope(at: Any) -> Any:
            return jax.grad(scalar)(at) @ direction

        @jax.jit
        def derivatives(at: Any) -> Any:
            forward = jax.jvp(scalar, (at,), (direction,))
            curvature = jax.jvp(slope, (at,), (direction,))[1], jax.grad(slope)(at) @ direction
            return *forward, slope(at), *curvature

        step = 1e-5
        (value, forward, reverse, mixed, twice) = derivatives(flat)
        ahead, behind = (derivatives(flat + sign * step * direction) for sign in (1, -1))
        np.testing.assert_allclose(forward, reverse, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(twice, mixed, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(reverse, (ahead[0] - behind[0]) / (2 * step), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mixed, (ahead[2] - behind[2]) / (2 * step), rtol=1e-5, atol=1e-5)
        assert jnp.isfinite(value)


def check_halves(subject: Subject, wide: list[Any]) -> None:
    """Half precision stays half precision, or becomes float32 where the sample says so, and is near float32."""
    for dtype in subject.sample.halves if subject.floats("float32") or subject.everything else ():
        halves = subject.compiled(subject.arrays(dtype), subject.floats(dtype))
        for half, one in zip(halves, wide, strict=True):
            if jnp.issubdtype(one.dtype, jnp.floating):
                assert half.dtype == ("float32" if subject.sample.widens else dtype)
            tolerance = HALF_TOLERANCE[dtype]
            np.testing.assert_allclose(np.asarray(half, np.float32), one, rtol=tolerance, atol=tolerance)


def check_vmap(subject: Subject) -> None:
    """`jax.vmap` over a stack of two models and two inputs equals one after the other."""
    values, floats = subject.arrays("float32"), subject.floats("float32")
    if not values and not floats:
        return
    stacked = {path: jnp.stack([value, value * 0.75]) for path, value in values.items()}
    pairs = [jnp.stack([x, x[::-1] if x.ndim else x]) for x in floats]
    mapped = jax.jit(jax.vmap(subject.call))(stacked, pairs)
    for index in range(2):
        one = subject.compiled({path: pair[index] for path, pair in stacked.items()}, [pair[index] for pair in pairs])
        for got, wanted in zip(mapped, one, strict=True):
            np.testing.assert_allclose(got[index], wanted, rtol=1e-4, atol=1e-5)


def check_saved(subject: Subject) -> None:
    """A new layer that loads the state, or the file, of this one gives the same."""
    if not subject.everything:
        return
    values, floats = subject.arrays("float32"), subject.floats("float32")
    wanted = subject.call(values, floats)
    write(slots(subject.layer, trainable=False), values)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "layer.safetensors"
        fx.save(path, subject.layer)
        for source in (fx.state(subject.layer), fx.load(path)):
            other = Subject(subject.sample)
            fx.loadmodel(other.layer, source)
            other.everything = read(slots(other.layer, trainable=False))
            for got, want in zip(other.call(other.everything, floats), wanted, strict=True):
                np.testing.assert_array_equal(got, want)


def check_printed(subject: Subject) -> None:
    """What a layer prints, read as Python, makes a layer that prints the same."""
    if subject.sample.printed and isinstance(subject.layer, fx.Layer):
        text = subject.layer.typed()
        assert eval(text, vars(operator) | vars(fx)).typed() == text


# ------------------------------------------------------------------ the arrays of a layer


def pure(layer: Any, training: bool) -> Callable[..., Any]:
    """The layer as a function of its arrays and its inputs."""

    def run(values: dict[str, Any], *inputs: Any) -> Any:
        with holding(layer, values), gradient_mode(training):
            return layer(*inputs)

    return run


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def slots(layer: Any, trainable: bool = True) -> dict[str, tuple[Any, Any]]:
    """Where the float arrays of a layer are: path -> (owner, name); only what training changes, or all of them.

    An array in two places counts at the first one.
    """
    found: dict[str, tuple[Any, Any]] = {}
    seen: set[int] = set()

    def walk(part: Any, path: str) -> None:
        if isinstance(part, (list, dict)):
            entries = enumerate(part) if isinstance(part, list) else part.items()
        elif isinstance(part, Generator) or not hasattr(part, "__dict__") or isinstance(part, type) or id(part) in seen:
            return
        else:
            seen.add(id(part))
            names = getattr(part, "__trainable__", None)
            entries = ((n, v) for n, v in vars(part).items() if not trainable or names is None or n in names)
        for name, value in entries:
            inner = f"{path}.{name}" if path else str(name)
            if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
                found[inner] = (part, name)
            elif not callable(value) or hasattr(value, "__dict__"):
                walk(value, inner)

    if not callable(layer) or not hasattr(layer, "__code__"):
        walk(layer, "")
    return found


def read(where: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {path: part[name] if isinstance(part, (list, dict)) else getattr(part, name)
            for path, (part, name) in where.items()}  # fmt: skip


def write(where: dict[str, tuple[Any, Any]], values: dict[str, Any]) -> None:
    for path, value in values.items():
        part, name = where[path]
        if isinstance(part, (list, dict)):
            part[name] = value
        else:
            setattr(part, name, value)


@contextlib.contextmanager
def holding(layer: Any, values: dict[str, Any]) -> Iterator[None]:
    """The layer holds other arrays within the block; whatever it wrote is undone after it."""
    everything = slots(layer, trainable=False)
    before = read(everything)
    write(everything, values)
    try:
        yield
    finally:
        write(everything, before)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Compiles without most of the optimisations: it is the formulas that are checked; float64 where asked for."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.enable_x64(dtype == "float64"):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
