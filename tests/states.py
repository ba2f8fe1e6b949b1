"""What the tests of states and of files share."""

import numpy as np
import pytest

import fluxion as fx


def same(a, b):
    """Equal plain containers: types, numbers, arrays and their types."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "dtype"):
        return hasattr(b, "dtype") and a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def refused(text, *arguments, call=fx.loadmodel, error=ValueError, **keywords):
    with pytest.raises(error) as caught:
        call(*arguments, **keywords)
    assert text in str(caught.value), str(caught.value)
