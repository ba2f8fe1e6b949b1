"""Layers whose sizes come from their first input: `Dense(None, 10)` is made once the size of its input is known.

A class of layers names in `__unsized__` those arguments of its constructor that may be None, or be a layer without
sizes. Where one is, the constructor is put off: the new object is of a subclass, `Unsized`, and holds the arguments in
its fields. Its first call finds the sizes, gives the object its own class back and runs the constructor, all in place.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.errors import SizeError
from fluxion.mode import inside_gradient
from fluxion.ops.arrays import is_concrete
from fluxion.random import Generator, default_generator

State = tuple[Any, dict[str, Any]]  # a class and fields
_building = threading.RLock()  # layers get their sizes one after the other, for another thread may call them meanwhile


class Unsized:
    """Mixed into the class of a layer as long as its sizes are unknown; the fields are the constructor's arguments."""

    __trainable__ = ()
    __float32__ = ()
    _sized: Any  # the class of the layer
    _owner: Any  # the class whose constructor was put off, of which that class may be a subclass

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        arguments = inspect.signature(self._sized.__call__).bind(self, *inputs, **keywords).args[1:]
        with _building:
            if isinstance(self, Unsized):  # another thread may have been first
                before = _state(self)
                _find_sizes(self, arguments)
                try:
                    return self(*inputs, **keywords)
                except SizeError:  # an input that does not fit says nothing about the sizes
                    _restore(self, before)
                    raise
        return self(*inputs, **keywords)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments as they were given."""
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for place, (name, parameter) in enumerate(_signature(self._owner).parameters.items()):
            value = vars(self).get(name)
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional += value or ()
            elif parameter.kind is parameter.VAR_KEYWORD:
                keywords |= value or {}
            elif parameter.default is parameter.empty or not _same(value, parameter.default):
                if parameter.kind is parameter.KEYWORD_ONLY or len(positional) < place:
                    keywords[name] = value
                else:
                    positional.append(value)
        return positional, keywords

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        advice = "call fx.autosize(model, input_shape), or the layer on an array"
        raise AttributeError(f"{self.typed()} has no {name!r} as long as its sizes are unknown; {advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._sized, self._owner, dict(vars(self)))


def accept_unsized(cls: Any) -> None:
    """Lets the constructor of a class of layers take None for the sizes that its `__unsized__` names."""
    constructor: Any = cls.__init__

    @functools.wraps(constructor)
    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:
        try:
            given = _unsized_arguments(cls, arguments, keywords)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        if given is None:
            constructor(self, *arguments, **keywords)
        else:
            made: Any = type(self)
            self.__class__ = _unsized_class(made, cls)
            vars(self).update(given)

    cls.__init__ = __init__


def check_sized(model: Any, name: str) -> None:
    """`ValueError` where a layer of `model` does not know its sizes yet; `name` is the function that needs them."""
    from fluxion.tree import objects

    for part in objects(model):
        if isinstance(part, Unsized):
            advice = "call fx.autosize(model, input_shape) before"
            raise ValueError(f"{name} needs the sizes of all layers, {part.typed()} has none yet; {advice}")


def last_axes(sizes: Any, shape: tuple[int, ...]) -> Any:
    """`sizes` with the last entries of `shape` where it holds None: one size, or a tuple of them.

    >>> last_axes(None, (32, 10)), last_axes((None, 10), (32, 8, 10))
    (10, (8, 10))
    """
    if sizes is None:
        return last_axes((None,), shape)[0]
    if any(isinstance(size, (tuple, list)) for size in sizes):
        return tuple(last_axes(size, shape) for size in sizes)
    if len(shape) < len(sizes):
        raise SizeError(f"expects an array of at least {len(sizes)} axes, got an array of shape {shape}")
    return tuple(b if a is None else a for a, b in zip(sizes, shape[len(shape) - len(sizes) :], strict=True))


def _unsized_arguments(cls: Any, arguments: Any, keywords: Any) -> dict[str, Any] | None:
    """All arguments by name, where a size among them is None."""
    bound = _signature(cls).bind(*arguments, **keywords)
    if not any(_is_unknown(bound.arguments.get(name, 1)) for name in cls.__unsized__):
        return None
    bound.apply_defaults()
    return dict(bound.arguments)


@functools.cache
def _signature(cls: Any) -> inspect.Signature:
    """The signature of a class's constructor, without `self`."""
    whole = inspect.signature(cls.__init__)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _is_unknown(sizes: Any) -> bool:
    if isinstance(sizes, (tuple, list)):
        return any(map(_is_unknown, sizes))
    return sizes is None or isinstance(sizes, Unsized)


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))


@functools.cache
def _unsized_class(cls: Any, owner: Any) -> Any:
    hidden = {name: _Hidden() for base in cls.__mro__ for name, value in vars(base).items() if type(value) is property}
    return _alike(cls, (Unsized, cls), {"_sized": cls, "_owner": owner, **hidden})


def _alike(cls: Any, bases: tuple[Any, ...], members: dict[str, Any]) -> Any:
    """A class that reads as `cls` does."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, bases, names | members)


@functools.cache
def _unfinished_class(cls: Any) -> Any:
    """The class of a layer while its constructor runs: another thread that calls it has to wait."""

    def __call__(self: Any, *inputs: Any, **keywords: Any) -> Any:
        with _building:
            pass
        return self(*inputs, **keywords)

    return _alike(cls, (cls,), {"__call__": __call__})


class _Hidden:
    """In place of a property, which would read fields that are not there; a field of its name is found before it."""

    def __get__(self, layer: Any, cls: Any) -> Any:
        raise AttributeError


def _restored(cls: Any, owner: Any, fields: dict[str, Any]) -> Any:
    """An unsized layer from what a copy or a pickle keeps of it."""
    layer = object.__new__(cls)
    _restore(layer, (_unsized_class(cls, owner), fields))
    return layer


def _state(layer: Any) -> State:
    return type(layer), dict(vars(layer))


def _restore(layer: Any, state: State) -> None:
    layer.__class__, fields = state
    vars(layer).clear()
    vars(layer).update(fields)


class Run:
    """A run of a model for its sizes only: it calls a copy, and what gets its sizes there gets them in the model too.

    Weights are drawn from `stream`, so that what the layers draw while they run does not count.
    """

    def __init__(self, stream: Generator) -> None:
        self.stream = stream
        self.originals: dict[int, tuple[Any, Any]] = {}  # by the identity of a copy, which is kept alive
        self.before: list[tuple[Any, State]] = []

    def copy(self, model: Any) -> Any:
        """A copy of the model, or of a part."""
        from fluxion.tree import fmap, objects

        made = fmap(lambda array: array, model)
        pairs = zip(objects(made), objects(model), strict=True)
        self.originals |= {id(copy): (copy, original) for copy, original in pairs}
        return made

    def find_sizes(self, layer: Any, inputs: tuple[Any, ...]) -> None:
        """Makes a layer, and what it is a copy of, a sized one."""
        _, original = self.originals.get(id(layer), (layer, layer))
        if isinstance(original, Unsized):
            self.before.append((original, _state(original)))
            with default_generator(self.stream):
                _build(original, inputs)
        if original is not layer:
            _restore(layer, _state(self.copy(original)))

    def undo(self) -> None:
        """Takes the sizes away again."""
        for layer, state in self.before:
            _restore(layer, state)


class _Current(threading.local):
    run: Run | None = None


_current = _Current()


@contextlib.contextmanager
def sizing(stream: Generator) -> Iterator[Run]:
    """Within the block a model is run for its sizes; if the block fails, no layer has got any."""
    outer, run = _current.run, Run(stream)
    _current.run = run
    try:
        yield run
    except BaseException:
        run.undo()
        raise
    finally:
        _current.run = outer


def can_draw(*inputs: Any) -> bool:
    """True where weights that are drawn now are numbers: not in compiled code, and not in a gradient."""
    return not inside_gradient() and is_concrete(jnp.zeros(()), *jax.tree.leaves(inputs))


def _find_sizes(layer: Any, inputs: tuple[Any, ...]) -> None:
    if _current.run is not None:
        _current.run.find_sizes(layer, inputs)
        return
    if not can_draw(*inputs):
        wanted = "and cannot get them inside compiled code or a gradient; call fx.autosize(model, input_shape) before"
        raise SizeError(f"{layer.typed()} does not know its sizes yet, {wanted}", layer)
    _build(layer, inputs)


def _build(layer: Any, inputs: tuple[Any, ...]) -> None:
    """Runs the constructor that was put off, with the sizes of the inputs."""
    from fluxion.tree import freeze

    before = _state(layer)
    constructor, signature = layer._owner.__init__.__wrapped__, _signature(layer._owner)
    bound = inspect.BoundArguments(signature, _sized_arguments(layer, signature.parameters, inputs))
    kept = {name: value for name, value in vars(layer).items() if name not in signature.parameters}
    sized = layer._sized
    with _building:
        _restore(layer, (_unfinished_class(sized), {}))
        try:
            with jax.ensure_compile_time_eval():  # weights are numbers, also where the model runs without any
                constructor(layer, *bound.args, **bound.kwargs)
        except BaseException:
            _restore(layer, before)
            raise
        layer.__class__ = sized
    vars(layer).update(kept)
    if "_frozen" in kept:
        freeze(layer)  # marks the parts too


def _sized_arguments(layer: Any, parameters: Any, inputs: tuple[Any, ...]) -> Any:
    arguments = {name: vars(layer)[name] for name in parameters}
    for name in layer.__unsized__:
        value = arguments.get(name, 1)
        if isinstance(value, Unsized):
            _find_sizes(value, inputs)
        elif _is_unknown(value):
            try:
                arguments[name] = layer.sizes_from(value, *inputs)
            except SizeError as error:
                raise SizeError(f"{layer.typed()} {error.message}", layer) from None
    return arguments
