"""Random numbers from keys: the bits of jax.random, the same by NumPy and JAX."""

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np

from fluxion.data.keys import sample_keys, threefry, uniforms


def test_threefry_is_the_generator_of_jax():
    key = np.array([123, 456], np.uint32)
    counter = np.arange(64, dtype=np.uint32), np.arange(64, 128, dtype=np.uint32)
    expected = jax.extend.random.threefry_2x32(key, np.concatenate(counter))
    assert (np.concatenate(threefry(key[None], counter)) == np.asarray(expected)).all()


def test_keys_depend_on_seed_epoch_and_index_alone():
    keys = sample_keys(7, 2, np.arange(1000))
    assert len(np.unique(keys, axis=0)) == 1000
    assert (sample_keys(7, 2, [3, 999, 3]) == keys[[3, 999, 3]]).all()
    for other in (sample_keys(8, 2, [3]), sample_keys(7, 3, [3]), sample_keys(7 + 2**40, 2, [3])):
        assert (other != keys[3]).any()


def test_numbers_are_uniform_and_the_same_by_numpy_and_jax():
    keys = sample_keys(0, 0, np.arange(20_000))
    numbers = uniforms(keys, 5)
    assert numbers.dtype == np.float32 and numbers.shape == (20_000, 5)
    assert (numbers == np.asarray(jax.jit(uniforms, static_argnums=1)(jnp.asarray(keys), 5))).all()
    assert numbers.min() >= 0 and numbers.max() < 1
    assert np.abs(numbers.mean(0) - 0.5).max() < 0.01 and np.abs(numbers.var(0) - 1 / 12).max() < 0.003
    assert np.abs(np.corrcoef(numbers.T) - np.eye(5)).max() < 0.03
