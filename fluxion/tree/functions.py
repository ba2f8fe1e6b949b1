"""What users do with trees: map, count, name, freeze and flatten the arrays of any value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fluxion.tree import kinds
from fluxion.tree.plan import write
from fluxion.tree.rebuild import Rebuilt, child_path, find_paths
from fluxion.tree.select import Trainable, data_children, label, matching_part
from fluxion.tree.structure import NUMBER, REFERENCE, Structure
from fluxion.tree.walk import Segment, Walk, flatten


def leaves(x: Any) -> list[Any]:
    """The arrays and then the floats of any value, each array once (Flux: `fleaves`).

    >>> import fluxion as fx
    >>> [leaf.shape for leaf in fx.leaves(fx.Dense(3, 2))]
    [(3, 2), (2,)]
    """
    return flatten(x)[0]


def rebuild(structure: Structure, leaves: Sequence[Any]) -> Any:
    """A new value of the structure that `flatten` gave, holding other leaves; the inverse of `flatten`.

    Functions are new functions over new cells and globals; what was shared is shared again. `ValueError` if the
    count differs.

    >>> import fluxion as fx
    >>> values, structure = fx.tree.flatten([1.0, 2.0, "name"])
    >>> fx.tree.rebuild(structure, [3.0, 4.0])
    [3.0, 4.0, 'name']
    """
    _check_count(structure, leaves)
    count = structure.leaf_count
    return Rebuilt([structure], [leaves[:count]], [leaves[count:]]).root


def assign(x: Any, leaves: Sequence[Any]) -> None:
    """Writes leaves, in the order of `flatten(x)`, back into the objects that own them. Flux: `loadmodel!`.

    `TypeError` if one has no owner that can change, as in a bare tuple; then nothing has been written.

    >>> import fluxion as fx
    >>> layer = {"w": np.zeros(2)}
    >>> fx.tree.assign(layer, [np.ones(2)])
    >>> layer["w"]
    array([1., 1.])
    """
    segment = Walk().run(x)
    _check_count(segment.structure, leaves)
    count = segment.structure.leaf_count
    numbers = {k: v for k, v in enumerate(leaves[count:]) if v is not segment.numbers[k]}
    places = []
    for node in segment.structure.nodes.values():
        for i, (marker, what) in enumerate(node.children):
            if marker is NUMBER and what in numbers:
                place = node.kind.place(segment.objects[node.index], node.header, i)
                if place is None:
                    raise TypeError(
                        f"the number in {node.kind.path(node.header, i)} of a tuple cannot be changed in place"
                    )
                places.append((*place, numbers[what]))
    write(segment, dict(enumerate(leaves[:count])))
    for setter, key, value in places:
        setter(key, value)


def _check_count(structure: Structure, leaves: Sequence[Any]) -> None:
    wanted = structure.leaf_count + structure.number_count
    if len(leaves) != wanted:
        raise ValueError(f"this structure has {wanted} leaves (arrays and floats), got {len(leaves)}")


def children(x: Any) -> dict[Any, Any]:
    """The parts of a value one level down, by field name, index or key; empty for an array or a number. Flux:
    `Functors.children`.

    >>> import fluxion as fx
    >>> list(fx.children(fx.Dense(3, 2)))
    ['weight', 'bias', 'activation']
    """
    segment = Walk().run(x)
    marker, what = segment.structure.root
    node = segment.structure.nodes.get(what) if marker is REFERENCE else None
    if node is None:
        return {}
    _, parts = node.kind.open(x)
    parts = list(parts)
    return {_key(node, i): _content(parts[i]) for i, _ in data_children(node)}


def _key(node: Any, i: int) -> Any:
    if isinstance(node.kind, kinds.DictKind):
        return node.header[1][i]
    return i if isinstance(node.kind, kinds.ListKind | kinds.TupleKind) else label(node, i)


def _content(x: Any) -> Any:
    return x.cell_contents if type(x).__name__ == "cell" else x


def objects(x: Any) -> Iterator[Any]:
    """Every object, container and function of a value, each once, outermost first; not its arrays, nor its classes."""
    segment = Walk().run(x)
    for index in _reachable(segment):
        if index in segment.structure.nodes:
            yield segment.objects[index]


def _reachable(segment: Segment) -> list[int]:
    marker, what = segment.structure.root
    pending: list[int] = [what] if marker is REFERENCE else []
    seen: dict[int, None] = {}
    while pending:
        index = pending.pop()
        if index in seen:
            continue
        seen[index] = None
        node = segment.structure.nodes.get(index)
        if node is not None:
            pending += [what for _, (marker, what) in reversed(data_children(node)) if marker is REFERENCE]
    return list(seen)


def fmap(f: Callable[..., Any], x: Any, *others: Any) -> Any:
    """A new value like `x`, with `f` applied to each array, together with what stands there in the others (Flux:
    `fmap`).

    Where another holds None (a gradient of something that has none) the leaf of `x` is kept. Python floats are
    mapped only where others hold something. What is shared in `x` is shared in the result. `ValueError` where the
    structures differ.

    >>> import fluxion as fx
    >>> model = fx.Dense(2, 1)
    >>> (g,) = fx.gradient(lambda m: m(jnp.ones((1, 2))).sum(), model)
    >>> model = fx.fmap(lambda p, d: p - 0.1 * d, model, g)
    """
    segment = Walk().run(x)
    structure = segment.structure
    new_leaves, new_numbers = list(segment.leaves), list(segment.numbers)
    if not others:
        return Rebuilt([structure], [[f(leaf) for leaf in new_leaves]], [new_numbers]).root
    ordinals = {index: k for k, index in enumerate(structure.leaf_indices)}
    done: set[int] = set()
    pending: list[tuple[Any, tuple[Any, ...], str]] = [(structure.root, others, "")]
    while pending:
        (marker, what), parts, path = pending.pop()
        if any(part is None for part in parts):
            continue
        if marker is NUMBER:
            new_numbers[what] = f(segment.numbers[what], *parts)
        elif marker is REFERENCE and what not in done:
            done.add(what)
            if what in ordinals:
                k = ordinals[what]
                new_leaves[k] = f(segment.leaves[k], *parts)
                continue
            node = structure.nodes.get(what)
            if node is None:  # a container of plain data
                continue
            for i, child in data_children(node):
                if child[0] is REFERENCE or child[0] is NUMBER:
                    inner = tuple(matching_part(part, node, i, path) for part in parts)
                    pending.append((child, inner, child_path(node, i, path)))
    return Rebuilt([structure], [new_leaves], [new_numbers]).root


def trainables(model: Any) -> dict[str, Any]:
    """The arrays that training changes, by path; a tied array once, frozen and integer ones not at all (Flux:
    `trainables`).

    >>> import fluxion as fx
    >>> [(path, w.shape) for path, w in fx.trainables(fx.Chain(fx.Dense(3, 2))).items()]
    [('layers[0].weight', (3, 2)), ('layers[0].bias', (2,))]
    """
    segment = Walk().run(model)
    keys = Trainable([segment.structure], 0, segment.structure.root).leaves
    paths = find_paths([segment.structure])
    indices = segment.structure.leaf_indices
    return {paths[0, indices[k]]: segment.leaves[k] for _, k in keys if is_inexact(segment.leaves[k])}


def is_inexact(x: Any) -> bool:
    """True for arrays of floating or complex numbers."""
    return jnp.issubdtype(x.dtype, jnp.inexact)


def params_count(model: Any) -> int:
    """How many numbers training changes; tied arrays count once.

    >>> import fluxion as fx
    >>> fx.params_count(fx.Dense(3, 2))
    8
    """
    return sum(int(np.prod(array.shape)) for array in trainables(model).values())


def destructure(model: Any) -> tuple[Any, Callable[[Any], Any]]:
    """`(flat, re)`: one vector of all trainable numbers, and the function that builds the model anew from such a
    vector.

    `re(flat)` restores shapes, types and sharing, and is differentiable. `ValueError` for a vector of another
    length. Flux: `destructure`.

    >>> import fluxion as fx
    >>> flat, re = fx.destructure(fx.Dense(3, 2))
    >>> flat.shape, re(2 * flat)(jnp.ones(3)).shape
    ((8,), (2,))
    """
    segment = Walk().run(model)
    structure, numbers = segment.structure, list(segment.numbers)
    template = list(segment.leaves)
    ordinals = [k for _, k in Trainable([structure], 0, structure.root).leaves if is_inexact(template[k])]
    parts = [jnp.ravel(jnp.asarray(template[k])) for k in ordinals]
    flat = jnp.concatenate(parts) if parts else jnp.zeros(0)

    def re(vector: Any) -> Any:
        if jnp.shape(vector) != flat.shape:
            raise ValueError(
                f"this model takes a vector of length {flat.size}, got an array of shape {jnp.shape(vector)}"
            )
        new, start = list(template), 0
        for k in ordinals:
            size = int(np.prod(template[k].shape))
            new[k] = jnp.reshape(vector[start : start + size], template[k].shape).astype(template[k].dtype)
            start += size
        return Rebuilt([structure], [new], [numbers]).root

    return flat, re


def freeze(model: Any) -> None:
    """Keeps the arrays of a model or layer from training, until `thaw`: they get no gradient and no update. Flux:
    `freeze!`.

    Every object below is marked, so `freeze(model); thaw(model.head)` trains the head alone. `TypeError` for what
    holds no object.

    >>> import fluxion as fx
    >>> model = fx.Chain(fx.Dense(3, 2), fx.Dense(2, 1))
    >>> fx.freeze(model[0])
    >>> list(fx.trainables(model))
    ['layers[1].weight', 'layers[1].bias']
    """
    for owner in _owners(model, "freeze"):
        object.__setattr__(owner, "_frozen", True)


def thaw(model: Any) -> None:
    """Lets a frozen model or layer train again. Flux: `thaw!`.

    >>> import fluxion as fx
    >>> model = fx.Dense(3, 2)
    >>> fx.freeze(model)
    >>> fx.thaw(model)
    >>> list(fx.trainables(model))
    ['weight', 'bias']
    """
    for owner in _owners(model, "thaw"):
        if getattr(owner, "_frozen", False):
            object.__delattr__(owner, "_frozen")


def _owners(model: Any, verb: str) -> list[Any]:
    found = [x for x in objects(model) if hasattr(x, "__dict__") and not isinstance(x, type)]
    if not found:
        raise TypeError(
            f"{verb} takes a model or a layer, got {type(model).__name__}; arrays in a bare list, tuple or dict "
            f"cannot be "
            f"marked: put them in an object, or leave them out of setup"
        )
    return found
