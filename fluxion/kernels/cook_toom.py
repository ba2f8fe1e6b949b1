"""Short correlations with few multiplications, by evaluating polynomials: what Winograd convolution is made of.

`m` neighbouring outputs of a correlation with `r` taps, `y[i] = sum over k of d[i + k] g[k]`, take `m r` products
when they are computed one by one. The transpose of this operation (in `d`) is the product of a polynomial of `m` and
one of `r` coefficients, and that is known from its values at `n = m + r - 1` points: evaluate both factors there,
multiply the values, one multiplication a point, and find the polynomial through the products. Transposing it back gives

         n x r                         y = A' [ (G g) * (B' d) ]
     g ---------> G g --.
         n x n           * ---------> y          `*` multiplies number by number: n multiplications
     d ---------> B' d -'     m x n

written F(m, r). In two dimensions each matrix is applied to the rows and to the columns, `A' [(G g G') * (B' d B)] A`:
F(4x4, 3x3) takes 36 multiplications where the sum takes 144. Over channels the number by number product becomes a
matrix product for each of the points, which is where all the time goes; the matrices hold no numbers of the data.

The points are exact fractions, and the algorithm is an identity in them. With rounded numbers they decide how large
the entries of the matrices grow and so how much of the precision is lost: 0, +-0.7, +-1.4 and infinity (where a
polynomial's value is its leading coefficient) lose half as much as the 0, +-1, +-2 and infinity of the textbooks.

A. L. Toom 1963, S. A. Cook 1966; S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast
Algorithms for Convolutional Neural Networks, 2015; B. Barabasz and others, Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks, 2018.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fluxion.kernels.builder import Function
from fluxion.kernels.values import Number

Matrix = tuple[tuple[Fraction, ...], ...]

_POINTS = {  # by how many there are with the one at infinity: 0 first, and every other one beside its negative
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), Fraction(7, 10), Fraction(-7, 10), Fraction(7, 5), Fraction(-7, 5)),
}


@dataclass(frozen=True)
class Transforms:
    """The matrices of `y = result [(kernel g) * (data d)]`."""

    result: Matrix  # A', outputs x points
    kernel: Matrix  # G, points x taps
    data: Matrix  # B', points x points


@functools.cache
def cook_toom(outputs: int, taps: int) -> Transforms:
    """The matrices of F(outputs, taps), exactly; a KeyError where no points are known for `outputs + taps - 1`.

    With points `p` and `N(p)` the product of `p - q` over the other points `q`: column `p` of A' holds the powers of
    `p`, row `p` of G the powers of `p` over `N(p)`, row `p` of B' the coefficients of the product of `x - q` over the
    other points. For infinity they are the limits of these.

    >>> [[str(number) for number in row] for row in cook_toom(2, 3).result]
    [['1', '1', '1', '0'], ['0', '1', '-1', '1']]
    """
    points = _POINTS[outputs + taps - 1]
    others = [[q for q in points if q != p] for p in points]
    norms = [math.prod((p - q for q in rest), start=Fraction(1)) for p, rest in zip(points, others, strict=True)]
    return Transforms(
        result=tuple((*(p**k for p in points), Fraction(k == outputs - 1)) for k in range(outputs)),
        kernel=(
            *(tuple(p**k / norm for k in range(taps)) for p, norm in zip(points, norms, strict=True)),
            tuple(Fraction(k == taps - 1) for k in range(taps)),
        ),
        data=(*((*_with_roots(rest), Fraction(0)) for rest in others), _with_roots(points)),
    )


def _with_roots(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The coefficients of the product of `x - root`, that of the lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return tuple(coefficients)


def transform(
    f: Function,
    matrix: Matrix,
    load: Callable[[int, int], Number],
    store: Callable[[int, int, Number], None],
) -> None:
    """Code for `matrix x matrix'`, of a square grid of vectors `x[i, j]`: the columns first, then the rows.

    A vector is loaded right before it is used and stored as soon as it is known: a grid of 36 does not fit into the
    registers.
    """
    side = range(len(matrix[0]))
    columns = [apply(f, matrix, [load(i, j) for i in side]) for j in side]
    for i in range(len(matrix)):
        for j, value in enumerate(apply(f, matrix, [column[i] for column in columns])):
            store(i, j, value)


def apply(f: Function, matrix: Matrix, vectors: Sequence[Number]) -> list[Number]:
    """Code for the products of each row of the matrix with the vectors.

    What belongs to a point `p` and what belongs to `-p` differ in the signs of the odd powers only. So rows that are
    such a pair share their sums over even and over odd powers; and where columns are a pair, rows of even powers need
    the sum of their two vectors, and rows of odd powers the difference.
    """
    powers = range(len(matrix[0]))
    mirrored = [j for j in powers[1:] if _are_mirrored([row[j - 1] for row in matrix], [row[j] for row in matrix])]
    if mirrored:
        return _by_column_pairs(f, matrix, vectors, mirrored)
    made: list[Number] = []
    for i, row in enumerate(matrix):
        if len(made) > i:
            continue
        if i + 1 < len(matrix) and _are_mirrored(row, matrix[i + 1]):
            made += _row_pair(f, row, vectors)
        else:
            made.append(_sum(f, row, vectors))
    return made


def _are_mirrored(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    """True where `b` is `a` with the signs of the odd powers changed, and both have such."""
    return any(a[1::2]) and any(a[::2]) and all(y == x * (-1) ** k for k, (x, y) in enumerate(zip(a, b, strict=True)))


def _by_column_pairs(f: Function, matrix: Matrix, vectors: Sequence[Number], mirrored: Sequence[int]) -> list[Number]:
    """The products, where column `j` mirrors column `j - 1` for all `j` of `mirrored`."""
    sums, differences = list(vectors), list(vectors)
    for j in mirrored:
        sums[j - 1], differences[j - 1] = vectors[j - 1] + vectors[j], vectors[j - 1] - vectors[j]
    halves = [[Fraction(0) if j in mirrored else entry for j, entry in enumerate(row)] for row in matrix]
    return [_sum(f, row, differences if power % 2 else sums) for power, row in enumerate(halves)]


def _row_pair(f: Function, row: Sequence[Fraction], vectors: Sequence[Number]) -> list[Number]:
    """The products of a row and of its mirror image: `even + s odd` and `even - s odd`, `s` its last odd entry."""
    scale = next(entry for entry in reversed(row[1::2]) if entry)
    even = _sum(f, row[::2], vectors[::2])
    odd = _sum(f, [entry / scale for entry in row[1::2]], vectors[1::2])
    return [_add_multiple(f, even, scale, odd), _add_multiple(f, even, -scale, odd)]


def _sum(f: Function, row: Sequence[Fraction], vectors: Sequence[Number]) -> Number:
    """The sum of the row's entries times the vectors, started with one that takes no multiplication if there is one."""
    terms = sorted(((entry, vector) for entry, vector in zip(row, vectors, strict=True) if entry), key=_is_scaled)
    (entry, total), *rest = terms
    total = total if entry == 1 else total * float(entry)
    for entry, vector in rest:
        total = _add_multiple(f, total, entry, vector)
    return total


def _is_scaled(term: tuple[Fraction, Number]) -> bool:
    return term[0] != 1


def _add_multiple(f: Function, total: Number, factor: Fraction, vector: Number) -> Number:
    """`total + factor * vector`."""
    if abs(factor) == 1:
        return total + vector if factor == 1 else total - vector
    return f.fma(vector, vector.like(float(factor)), total)
