"""Whatever a function reads from around it takes effect at the next call, compiled or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from modules import module  # noqa: F401

import fluxion as fx

X = jnp.arange(1.0, 4.0)


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """Hundreds of tiny programs: machine code of the simplest sort will do."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# modules that define f(x), each followed by statements that change what f reads, run in the module
SOURCES = """
# global float
scale = 2.0
def f(x): return x * scale
>>> scale = 3.0
>>> scale = 5.0
>>> scale = 7.0

# global int
n = 2
def f(x): return x * n
>>> n = 3

# global bool
flip = False
def f(x): return -x if flip else x
>>> flip = True

# global string
mode = 'a'
def f(x): return x * len(mode)
>>> mode = 'abc'

# global None
bias = None
def f(x): return x if bias is None else x + bias
>>> bias = 2.0
>>> bias = jnp.ones(3)

# global array
w = jnp.ones(3)
def f(x): return x * w
>>> w = jnp.arange(3.0)
>>> w = 2 * w

# global NumPy array
w = np.ones(3)
def f(x): return x * w
>>> w = np.arange(3.0)
>>> w[:] = 7

# global complex
z = 1 + 2j
def f(x): return (x * z).imag
>>> z = 3j

# global deleted
w = 2.0
def f(x): return x * w if 'w' in globals() else x
>>> del w

# global shadows a builtin
def f(x): return abs(x)
>>> abs = lambda x: 3 * x

# global of a nested function
scale = 2.0
def f(x):
    def inner(y): return y * scale
    return inner(x)
>>> scale = 3.0

# global in a comprehension
scale = 2.0
def f(x): return sum([x * scale for _ in range(2)])
>>> scale = 3.0

# global function redefined
def g(x): return 2 * x
def f(x): return g(x)
>>> def g(x): return 3 * x

# global function two calls down
k = 2.0
def h(x): return x * k
def g(x): return h(x)
def f(x): return g(x)
>>> k = 3.0
>>> def h(x): return x + k

# recursive function
k = 2.0
def f(x, n=3): return x if n == 0 else k * f(x, n - 1)
>>> k = 3.0
>>> f.__defaults__ = (2,)

# mutual recursion
k = 2.0
def f(x, n=4): return x if n == 0 else g(x, n - 1)
def g(x, n): return f(x * k, n)
>>> k = 3.0

# code replaced
def f(x): return x
def g(x): return 2 * x
>>> f.__code__ = g.__code__

# closure float
def make():
    k = 2.0
    def set(v):
        nonlocal k
        k = v
    return lambda x: x * k, set
f, set_k = make()
>>> set_k(3.0)
>>> set_k(4.0)
>>> set_k(jnp.arange(3.0))

# closure int
def make():
    k = 2
    def set(v):
        nonlocal k
        k = v
    return lambda x: x * k, set
f, set_k = make()
>>> set_k(3)

# closure array
def make():
    k = jnp.ones(3)
    def set(v):
        nonlocal k
        k = v
    return lambda x: x * k, set
f, set_k = make()
>>> set_k(X)

# default argument
def f(x, k=2.0): return x * k
>>> f.__defaults__ = (3.0,)

# default array
def f(x, k=jnp.ones(3)): return x * k
>>> f.__defaults__ = (X,)

# default list
def f(x, k=[2.0]): return x * k[0]
>>> f.__defaults__[0][0] = 3.0

# default lambda
scale = 2.0
def f(x, g=lambda x: x * scale): return g(x)
>>> scale = 3.0
>>> f.__defaults__ = (lambda x: -x,)

# keyword default
def f(x, *, k=2.0): return x * k
>>> f.__kwdefaults__ = {'k': 3.0}
>>> f.__kwdefaults__['k'] = 4.0

# function attribute
def f(x): return x * f.k
f.k = 2.0
>>> f.k = 3.0
>>> f.k = X

# dict entry
c = {'k': 2.0, 'n': 1}
def f(x): return x * c['k'] + c['n']
>>> c['k'] = 3.0
>>> c['n'] = 5

# dict entry array
c = {'w': jnp.ones(3)}
def f(x): return x * c['w']
>>> c['w'] = X
>>> c = {'w': 2 * X}

# dict entry added
c = {'k': 2.0}
def f(x): return x * sum(c.values())
>>> c['j'] = 3.0

# dict get
c = {'k': 2.0}
def f(x): return x * c.get('j', 1.0)
>>> c['j'] = 3.0

# dict in
c = {'k': 2.0}
def f(x): return x if 'j' in c else 2 * x
>>> c['j'] = 3.0

# dict order
c = {'a': 1, 'b': 2}
def f(x): return x * next(iter(c.values()))
>>> c['a'] = c.pop('a')

# nested dict
c = {'a': {'b': [1.0, {'k': 2.0}]}}
def f(x): return x * c['a']['b'][1]['k']
>>> c['a']['b'][1]['k'] = 3.0

# list item
c = [2.0, 3]
def f(x): return x * c[0] * c[1]
>>> c[0] = 3.0
>>> c[1] = 5

# list length
c = [1.0]
def f(x): return x * len(c)
>>> c.append(2.0)
>>> c.clear()

# list of arrays
c = [jnp.ones(3)]
def f(x): return x * sum(c)
>>> c.append(X)
>>> c[0] = X

# list slice
c = [1, 2, 3]
def f(x): return x * sum(c[1:])
>>> c[2] = 9

# list negative index
c = [1, 2, 3]
def f(x): return x * c[-1]
>>> c.append(9)

# list index
c = [1, 2, 3]
def f(x): return x * c.index(2)
>>> c.insert(0, 9)

# list unpacked
c = [1, 2]
def f(x):
    a, b = c
    return x * a * b
>>> c[1] = 9

# list truth
c = [1]
def f(x): return x if c else 2 * x
>>> c.clear()

# list compared
c = [1]
d = [1]
def f(x): return x if c == d else 2 * x
>>> d[0] = 2

# list in
c = [1]
def f(x): return x if 2 in c else 2 * x
>>> c[0] = 2

# set
c = {1}
def f(x): return x if 2 in c else 2 * x
>>> c.add(2)

# set size
c = {1}
def f(x): return x * len(c)
>>> c.add(2)

# set operator
c = {1}
def f(x): return x * len({5} | c)
>>> c.add(2)

# frozenset
c = frozenset({1})
def f(x): return x * len(c)
>>> c = frozenset({1, 2})

# star arguments
c = [1.0, 2.0]
def g(*a): return sum(a)
def f(x): return x * g(*c)
>>> c[0] = 5.0

# double star arguments
c = {'a': 1.0}
def g(a): return a
def f(x): return x * g(**c)
>>> c['a'] = 5.0

# f-string of a list
c = [1]
def f(x): return x * len(f'{c}')
>>> c[0] = 12345

# json of a dict
import json
c = {'a': 1}
def f(x): return x * len(json.dumps(c))
>>> c['a'] = 12345

# sorted list
c = [3, 1]
def f(x): return x * sorted(c)[0]
>>> c[0] = -5

# array from a list
c = [1.0, 2.0, 3.0]
def f(x): return x * jnp.array(c)
>>> c[0] = 9.0

# NumPy array from a tuple
c = (1.0, 2.0, 3.0)
def f(x): return x * np.array(c)
>>> c = (9.0, 1.0, 1.0)

# join of a list
c = ['a']
def f(x): return x * len(''.join(c))
>>> c[0] = 'abc'

# dict merged
c = {'a': 1.0}
def f(x): return x * {**c}['a']
>>> c['a'] = 5.0

# dict built from
c = {'a': 1.0}
def f(x): return x * dict(c)['a']
>>> c['a'] = 5.0

# list built from
c = [1.0]
def f(x): return x * list(c)[0]
>>> c[0] = 5.0

# dict pattern
c = {'a': 1}
def f(x):
    match c:
        case {'a': 1}: return x
        case _: return 2 * x
>>> c['a'] = 5

# list pattern
c = [1, 2]
def f(x):
    match c:
        case [1, 2]: return x
        case _: return 2 * x
>>> c[0] = 5

# tuple
c = (2.0, 3)
def f(x): return x * c[0] * c[1]
>>> c = (2.0, 4)
>>> c = (1.0, 4)

# defaultdict
from collections import defaultdict
c = defaultdict(float, k=2.0)
def f(x): return x * c['k']
>>> c['k'] = 3.0

# ordered dict
from collections import OrderedDict
c = OrderedDict(a=2.0, b=3.0)
def f(x): return x * list(c.values())[0]
>>> c.move_to_end('a')
>>> c['b'] = 7.0

# deque
from collections import deque
c = deque([1.0], 2)
def f(x): return x * sum(c)
>>> c.append(3.0)
>>> c.append(4.0)

# counter
from collections import Counter
c = Counter(a=2)
def f(x): return x * c['a']
>>> c['a'] += 1

# user's dict class
class Config(dict):
    __getattr__ = dict.__getitem__
c = Config(k=2.0)
def f(x): return x * c.k
>>> c['k'] = 3.0

# user's dict class with arrays
class Config(dict): pass
c = Config(k=jnp.ones(3))
def f(x): return x * c['k']
>>> c['k'] = X

# user's list class
class Items(list): pass
c = Items([2.0])
def f(x): return x * c[0]
>>> c[0] = 3.0

# user's list class with arrays
class Items(list): pass
c = Items([jnp.ones(3)])
def f(x): return x * c[0]
>>> c[0] = X

# user dict
from collections import UserDict
c = UserDict(k=2.0)
def f(x): return x * c['k']
>>> c['k'] = 3.0

# chain map
from collections import ChainMap
c = ChainMap({'k': 2.0})
def f(x): return x * c['k']
>>> c['k'] = 3.0

# read-only mapping
from types import MappingProxyType
d = {'k': 2.0}
c = MappingProxyType(d)
def f(x): return x * c['k']
>>> d['k'] = 3.0

# simple namespace
from types import SimpleNamespace
c = SimpleNamespace(k=2.0)
def f(x): return x * c.k
>>> c.k = 3.0
>>> c.k = X

# command-line arguments
from argparse import Namespace
c = Namespace(k=2.0)
def f(x): return x * c.k
>>> c.k = 3.0
>>> c.k = X

# byte array
c = bytearray(b'ab')
def f(x): return x * c[0]
>>> c[0] = 3

# array of objects
c = np.array([2.0, 'a'], dtype=object)
def f(x): return x * c[0]
>>> c[0] = 3.0

# array of strings
c = np.array(['a', 'b'])
def f(x): return x * len(c[0])
>>> c = np.array(['abc', 'b'])
>>> c[0] = ''

# array.array
import array
c = array.array('d', [2.0])
def f(x): return x * c[0]
>>> c[0] = 3.0

# iterator
c = iter([2.0, 2.0, 2.0])
d = [5.0]
def f(x): return x * d[0]
>>> d[0] = 6.0

# attribute
class A: pass
a = A()
a.k = 2.0
def f(x): return x * a.k
>>> a.k = 3.0
>>> a.k = 4
>>> a.k = X

# attribute added
class A: k = 2.0
a = A()
def f(x): return x * a.k
>>> a.k = 3.0
>>> del a.k

# attribute deleted
class A: k = 2.0
a = A()
a.k = 5.0
def f(x): return x * a.k
>>> del a.k

# attribute by name
class A: pass
a = A()
a.k = 2.0
def f(x): return x * getattr(a, 'k')
>>> a.k = 3.0

# object replaced
class A:
    def __init__(self, k): self.k = k
a = A(2.0)
def f(x): return x * a.k
>>> a = A(3.0)

# class changed
class A:
    def g(self, x): return x
class B:
    def g(self, x): return 2 * x
a = A()
def f(x): return a.g(x)
>>> a.__class__ = B

# layer replaced
m = fx.Chain(fx.Dense(3, 3), fx.relu)
f = m
>>> m.layers[1] = fx.tanh
>>> m.layers[0] = fx.Dense(3, 3, fx.sigmoid)

# weight replaced
m = fx.Dense(3, 3)
f = m
>>> m.weight = jnp.ones((3, 3))
>>> m.bias = X
>>> m.activation = jnp.tanh

# slots
class A:
    __slots__ = ('k',)
a = A()
a.k = 2.0
def f(x): return x * a.k
>>> a.k = 3.0
>>> a.k = X

# slots and fields
class A:
    __slots__ = ('k',)
class B(A): pass
a = B()
a.k = 2.0
a.j = 1.0
def f(x): return x * a.k * a.j
>>> a.k = 3.0
>>> a.j = X

# private slots
class A:
    __slots__ = ('__k',)
    def __init__(self): self.__k = 2.0
    def set(self, k): self.__k = k
    def __call__(self, x): return x * self.__k
f = A()
>>> f.set(3.0)
>>> f.set(X)

# dataclass
from dataclasses import dataclass
@dataclass
class A:
    k: float = 2.0
a = A()
def f(x): return x * a.k
>>> a.k = 3.0
>>> a = A(5.0)

# frozen dataclass
from dataclasses import dataclass
@dataclass(frozen=True)
class A:
    k: float = 2.0
a = A()
def f(x): return x * a.k
>>> a = A(3.0)
>>> a = A(X)

# slotted dataclass
from dataclasses import dataclass
@dataclass(slots=True)
class A:
    k: float = 2.0
a = A()
def f(x): return x * a.k
>>> a.k = 3.0
>>> a = A(X)

# named tuple
from typing import NamedTuple
class A(NamedTuple):
    k: float = 2.0
    def g(self, x): return x * self.k
a = A()
def f(x): return a.g(x)
>>> a = A(3.0)
>>> a = A(X)

# partial
from functools import partial
def g(k, x, *, j): return x * k + j
f = partial(g, 2.0, j=1.0)
>>> f.keywords['j'] = 3.0
>>> f = partial(g, X, j=1.0)
>>> def g(k, x, *, j): return k

# bound method
class A:
    k = 2.0
    def g(self, x): return x * self.k
a = A()
f = a.g
>>> a.k = 3.0
>>> A.k = 4.0
>>> del a.k

# partial of a bound method
from functools import partial
class A:
    k = 2.0
    def g(self, j, x): return x * self.k * j
a = A()
f = partial(a.g, 2.0)
>>> a.k = 3.0

# partial method
from functools import partialmethod
k = 2.0
class A:
    def g(self, j, x): return x * k * j
    h = partialmethod(g, 3.0)
a = A()
def f(x): return a.h(x)
>>> k = 5.0
>>> k = X

# global read by a method
k = 2.0
class A:
    def __call__(self, x): return x * k
f = A()
>>> k = 3.0
>>> k = X

# global read by a base's method
k = jnp.ones(3)
class A:
    def g(self, x): return x * k
class B(A):
    def g(self, x): return 2 * super().g(x)
b = B()
def f(x): return b.g(x)
>>> k = X
>>> k = 3.0

# super with arguments
k = jnp.ones(3)
class A:
    def g(self, x): return x * k
class B(A):
    def g(self, x): return 2 * super(B, self).g(x)
b = B()
def f(x): return b.g(x)
>>> k = X
>>> k = 3.0

# class attribute
class A:
    k = 2.0
a = A()
def f(x): return x * a.k
>>> A.k = 3.0
>>> A.k = X

# class attribute by the class
class A:
    k = 2.0
def f(x): return x * A.k
>>> A.k = 3.0
>>> A.k = X

# class attribute list
class A:
    k = [2.0]
def f(x): return x * A.k[0]
>>> A.k[0] = 3.0

# inherited class attribute
class A:
    k = 2.0
class B(A): pass
b = B()
def f(x): return x * b.k
>>> A.k = 3.0
>>> B.k = X

# nested class
class A:
    class Inner:
        k = 2.0
def f(x): return x * A.Inner.k
>>> A.Inner.k = 3.0

# method replaced
class A:
    def g(self, x): return x
a = A()
def f(x): return a.g(x)
>>> A.g = lambda self, x: 2 * x

# operator of a class
k = 2.0
class A:
    def __mul__(self, x): return x * k
a = A()
def f(x): return a * x
>>> k = 3.0
>>> k = X

# length of a class
k = [1]
class A:
    def __len__(self): return len(k)
a = A()
def f(x): return x * len(a)
>>> k.append(1)

# object as a context
k = 2.0
class A:
    def __enter__(self): return k
    def __exit__(self, *e): pass
a = A()
def f(x):
    with a as j: return x * j
>>> k = 3.0

# property
k = 2.0
class A:
    @property
    def j(self): return k
a = A()
def f(x): return x * a.j
>>> k = 3.0
>>> k = X

# cached property
from functools import cached_property
k = 2.0
class A:
    @cached_property
    def j(self): return k
a = A()
def f(x): return x * a.j
>>> k = 3.0; a = A()

# static method
k = 2.0
class A:
    @staticmethod
    def g(x): return x * k
a = A()
def f(x): return a.g(x)
>>> k = 3.0
>>> k = X

# class method
class A:
    k = 2.0
    @classmethod
    def g(cls, x): return x * cls.k
def f(x): return A.g(x)
>>> A.k = 3.0
>>> A.k = X

# descriptor
k = 2.0
class D:
    def __get__(self, a, cls): return k
class A:
    d = D()
a = A()
def f(x): return x * a.d
>>> k = 3.0
>>> k = X

# missing attribute
k = 2.0
class A:
    def __getattr__(self, name): return k
a = A()
def f(x): return x * a.anything
>>> k = 3.0

# abstract class
from abc import ABC, abstractmethod
k = 2.0
class A(ABC):
    @abstractmethod
    def g(self, x): ...
class B(A):
    def g(self, x): return x * k
b = B()
def f(x): return b.g(x)
>>> k = 3.0
>>> k = X

# generic class
from typing import Generic, TypeVar
T = TypeVar('T')
k = 2.0
class A(Generic[T]):
    def g(self, x): return x * k
a = A[int]()
def f(x): return a.g(x)
>>> k = 3.0
>>> k = X

# enum
from enum import Enum
class E(Enum):
    A = 1
    B = 2
e = E.A
def f(x): return x * e.value
>>> e = E.B

# enum with a method
from enum import Enum
k = 2.0
class E(Enum):
    A = 1
    def g(self, x): return x * k
def f(x): return E.A.g(x)
>>> k = 3.0

# class made in a function
def make(k):
    class A:
        def __call__(self, x): return x * k
    return A()
f = make(2.0)
>>> f = make(3.0)
>>> f = make(X)

# decorator
import functools
k = 2.0
def twice(g):
    @functools.wraps(g)
    def wrapped(x): return g(x) * k
    return wrapped
@twice
def f(x): return x * k
>>> k = 3.0
>>> k = X

# cached function
import functools
k = 2.0
@functools.cache
def g(n): return n * k
def f(x): return x * g(3)
>>> k = 5.0; g.cache_clear()

# single dispatch
import functools
k = 2.0
@functools.singledispatch
def g(n, x): return x
@g.register(int)
def _(n, x): return x * k
def f(x): return g(1, x)
>>> k = 3.0
>>> k = X

# context manager
import contextlib
k = 2.0
@contextlib.contextmanager
def scaled():
    yield k
def f(x):
    with scaled() as j: return x * j
>>> k = 3.0
>>> k = X

# generator function
k = 2.0
def parts(x):
    yield x * k
    yield x
def f(x): return sum(parts(x))
>>> k = 3.0
>>> k = X

# mapped function
k = 2.0
def g(x): return x * k
def f(x): return jax.vmap(g)(x)
>>> k = 3.0

# function with a custom gradient
k = 2.0
@jax.custom_jvp
def g(x): return x * k
g.defjvp(lambda p, t: (g(*p), t[0] * k))
def f(x): return g(x)
>>> k = 3.0
>>> k = X

# function with a custom rule
k = 2.0
@fx.rrule
def g(x): return x * k, lambda d: (d * k,)
def f(x): return g(x)
>>> k = 3.0
>>> k = X

# scanned function
k = 2.0
def f(x): return jax.lax.scan(lambda c, _: (c * k, None), x, length=3)[0]
>>> k = 3.0
>>> k = X

# gradient inside
k = 2.0
def f(x): return fx.gradient(lambda y: (y * y * k).sum(), x)[0]
>>> k = 3.0
>>> k = X

# range
r = range(3)
def f(x): return x * len(r)
>>> r = range(4)

# dtype
d = jnp.float32
def f(x): return (x / 3).astype(d) * 1.0
>>> d = jnp.bfloat16

# NumPy scalar
k = np.float32(2)
def f(x): return x * k
>>> k = np.float32(3)

# date
import datetime
d = datetime.date(2024, 1, 1)
def f(x): return x * d.year
>>> d = datetime.date(2025, 1, 1)

# fraction
from fractions import Fraction
k = Fraction(1, 2)
def f(x): return x * float(k)
>>> k = Fraction(1, 3)

# built-in method
c = {'k': 2.0}
get = c.get
def f(x): return x * get('k')
>>> c['k'] = 3.0

# exception class
k = 2.0
class E(Exception):
    def scale(self): return k
def f(x):
    try: raise E
    except E as e: return x * e.scale()
>>> k = 3.0

# type annotation global
k = 2.0
def f(x: 'k'): return x * k
>>> k = 3.0

# lambda in a dict
k = 2.0
c = {'g': lambda x: x * k}
def f(x): return c['g'](x)
>>> k = 3.0
>>> c['g'] = lambda x: -x

# walrus
k = 2.0
def f(x): return x * j if (j := k) else x
>>> k = 3.0

# import inside
def f(x):
    import math
    return x * math.pi * k
k = 1.0
>>> k = 2.0
"""


def _cases():
    for block in SOURCES.strip().split("\n\n"):
        name, *lines = block.split("\n")
        changes = [line.removeprefix(">>> ") for line in lines if line.startswith(">>> ")]
        yield name.removeprefix("# "), ("\n".join(line for line in lines if not line.startswith(">>> ")), changes)


CASES = dict(_cases())


@pytest.mark.filterwarnings("ignore::fluxion.RecompileWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_change_takes_effect(name, module):  # noqa: F811
    source, changes = CASES[name]
    user = module(source)
    user.X = jnp.array([3.0, 1.0, 2.0])
    for change in ["", *changes]:
        exec(change, user.__dict__)
        wanted = user.f(X)
        np.testing.assert_allclose(fx.compile(user.f)(X), wanted, rtol=1e-6, err_msg=f"compiled, after {change!r}")
        value, _ = fx.withgradient(lambda x: user.f(x).sum(), X)
        np.testing.assert_allclose(value, wanted.sum(), rtol=1e-5, err_msg=f"gradient, after {change!r}")


READERS = """
# by name
import {config} as config
def f(x): return x * config.scale

# in a package
import {config} as config
class A:
    def g(self, x): return x * config.scale
a = A()
def f(x): return a.g(x)

# function of the module
import {config} as config
def f(x): return config.scaled(x)

# imported function
from {config} import scaled
def f(x): return scaled(x)

# object that holds the module
import {config} as config
class A:
    def __init__(self): self.config = config
    def __call__(self, x): return x * self.config.scale
f = A()

# module handed on
import {config} as config
def g(c, x): return x * c.scale
def f(x): return g(config, x)

# by a string
import {config} as config
def f(x): return x * getattr(config, 'scale')

# in a closure
import {config} as config
def make(c):
    return lambda x: x * c.scale
f = make(config)

# through a closure
import {config} as config
def make(c):
    return lambda x: x * getattr(c, 'scale')
f = make(config)
"""
READERS = dict(block.removeprefix("# ").split("\n", 1) for block in READERS.strip().split("\n\n"))


@pytest.mark.filterwarnings("ignore::fluxion.RecompileWarning")
@pytest.mark.parametrize("reader", READERS)
def test_an_attribute_of_a_module_of_the_user_takes_effect(reader, module):  # noqa: F811
    config = module("scale = 2.0\nother = 1\ndef scaled(x): return x * scale")
    user = module(READERS[reader].format(config=config.__name__))
    for scale in (2.0, 3.0, 5, X):
        config.scale = scale
        np.testing.assert_allclose(fx.compile(user.f)(X), X * scale, rtol=1e-6)
        np.testing.assert_allclose(fx.gradient(lambda x: user.f(x).sum(), X + 1)[0], scale * np.ones(3), rtol=1e-6)


def test_what_a_function_does_not_name_does_not_recompile(module):  # noqa: F811
    user = module("unrelated = 1\nnames = ['a']\ndef f(x): return x * 2")
    for i in range(4):
        user.unrelated, user.names = i, ["a"] * i
        fx.compile(user.f)(X)
    assert fx.explain(user.f).count == 1


def test_equal_values_in_new_objects_do_not_recompile():
    for _ in range(4):
        table, box, kinds = {"k": 2, "names": ("a", "b")}, Box(1), {1, 2}
        f = lambda x: x * table["k"] * box.k * len(kinds)  # noqa: B023
        fx.compile(f)(X)
    assert fx.explain(f).count == 1


class Box:
    def __init__(self, k):
        self.k = k


def test_each_of_two_objects_keeps_its_own_values():
    f = fx.compile(lambda box, x: x * box.k)
    for k in (2, 3, 2, 3):
        np.testing.assert_allclose(f(Box(k), X), k * X)
    assert fx.explain(f).count == 2


@pytest.mark.parametrize(("before", "after"), [(1, 1.0), (1, True), ((1,), (1.0,)), ("1", 1)])
def test_equal_values_of_other_types_take_effect(before, after):
    items, table, text = [before], {"k": before}, {f"w{i}": before for i in range(100)}
    functions = [lambda: repr(items[0]), lambda: repr(table["k"]), lambda: repr(text["w3"]), lambda: repr(list(items))]
    for value in (before, after):
        items[0] = table["k"] = text["w3"] = value
        assert [fx.compile(f)() for f in functions] == [repr(value)] * 3 + [repr([value])]


def test_the_sign_of_zero_takes_effect():
    items, k = [0.0], 0.0
    functions = [lambda x: x / items[0], lambda x: x / k]
    assert [float(fx.compile(f)(1.0)) for f in functions] == [np.inf] * 2
    items[0] = k = -0.0
    assert [float(fx.compile(f)(1.0)) for f in functions] == [-np.inf] * 2
