"""Generators of random numbers."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx

ROOT = Path(__file__).parent.parent


def test_a_draw_in_a_jit_of_the_users_leaves_the_generator_usable():
    x = jnp.ones(8)
    for draw in (lambda x: fx.dropout(x, 0.5), jax.checkpoint(lambda x: fx.dropout(x, 0.5))):
        first = jax.jit(draw)(x)
        assert set(np.asarray(first).tolist()) <= {0, 2}
        assert not isinstance(fx.random.generator().key, jax.core.Tracer)
    assert fx.dropout(x, 0.5).shape == (8,)


def test_the_first_draw_of_a_process_may_be_compiled():
    script = "import jax, fluxion as fx; x = fx.ones(3); draw = lambda x: fx.dropout(x, 0.5); jax.jit(draw)(x); draw(x)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_the_same_seed_gives_the_same_numbers_compiled_and_eager():
    drawn = []
    for draw in (fx.compile(lambda x: fx.dropout(x, 0.5)), lambda x: fx.dropout(x, 0.5)):
        fx.seed(3)
        drawn.append([np.asarray(draw(jnp.ones(16))) for _ in range(2)])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0][0] != drawn[0][1]).any()


def test_a_mode_that_is_none():
    layer = fx.Dropout(0.5)
    layer.active = "yes"
    with pytest.raises(TypeError, match="active is True, False or None, got 'yes'"):
        layer(jnp.ones(3))


def test_seeds_and_generators_of_other_kinds():
    with pytest.raises(TypeError, match=r"a seed is an integer, got 1.5 of type float"):
        fx.seed(1.5)
    with pytest.raises(TypeError, match=r"rng= takes a fluxion.random.Generator, got int; write Generator\(seed\)"):
        fx.dropout(jnp.ones(3), 0.5, rng=0)
