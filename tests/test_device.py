"""Where arrays live, and in which precision."""

import importlib
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion import bf16, cpu, device, f16, f32, f64, gpu
from fluxion.errors import FluxionWarning

device_module = importlib.import_module("fluxion.device")  # `fluxion.device` itself is the function


def has_gpu():
    return device_module._first("gpu") is not None


@pytest.fixture
def not_warned(monkeypatch):
    monkeypatch.setattr(device_module, "_warned", False)


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_gpu_without_one_warns_once_and_changes_nothing(not_warned):
    model = fx.Dense(2, 3)
    with pytest.warns(FluxionWarning, match=re.escape("pip install -U 'jax[cuda13]'")) as caught:
        assert gpu(model) is model
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "everything stays on the CPU" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gpu(model) is model


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_gpu_required_without_one_is_an_error():
    with pytest.raises(RuntimeError, match=r"JAX finds no GPU on this machine; install JAX for your GPU: pip install"):
        gpu(fx.Dense(2, 3), required=True)


@pytest.mark.skipif(not has_gpu(), reason="needs a GPU")
def test_gpu_moves_models_and_back():
    shared = fx.Dense(2, 2)
    model = gpu(fx.Chain(shared, shared))
    assert model.layers[0] is model.layers[1]
    assert device(model).platform == "gpu"
    assert device(cpu(model)).platform == "cpu"
    with pytest.raises(ValueError, match="the arrays live on 2 devices"):
        device([model, jax.device_put(1.0, jax.devices("cpu")[0])])


def test_moving_uses_one_device_for_everything(monkeypatch):
    monkeypatch.setattr(device_module, "_first", lambda platform: jax.devices("cpu")[0])
    shared = fx.Dense(2, 2)
    model = gpu(fx.Chain(shared, shared, np.tanh))
    assert model.layers[0] is model.layers[1]
    assert model.layers[0] is not shared
    assert device(model) == jax.devices("cpu")[0]


def test_cpu_keeps_what_is_there():
    x = {"jax": jnp.ones(2), "numpy": np.ones(2), "text": "a", "number": 0.5}
    moved = cpu(x)
    assert moved["jax"] is x["jax"]
    assert moved["numpy"] is x["numpy"]
    assert (moved["text"], moved["number"]) == ("a", 0.5)


def test_moving_inside_a_gradient():
    (g,) = fx.gradient(lambda w: jnp.sum(cpu({"w": w})["w"] ** 2), jnp.ones(2))
    assert g.tolist() == [2, 2]


def test_device():
    assert device(fx.Chain(fx.Dense(2, 2), fx.relu)).platform == "cpu"
    assert device(jnp.ones(2)) == device(np.ones(2)) == jax.devices("cpu")[0]
    assert device({"text": "a", "count": 1}) is None


def test_mixed_devices_are_an_error(monkeypatch):
    places = iter([{"cpu:0"}, {"gpu:0"}])
    monkeypatch.setattr(device_module, "_devices", lambda leaf: next(places))
    with pytest.raises(ValueError, match=r"live on 2 devices \(cpu:0, gpu:0\); cpu\(x\) or gpu\(x\) brings them"):
        device([jnp.ones(2), jnp.zeros(2)])


@pytest.mark.parametrize(("convert", "dtype"), [(f16, "float16"), (bf16, "bfloat16"), (f32, "float32")])
def test_floating_arrays_are_converted_and_nothing_else(convert, dtype):
    x = {
        "float": jnp.ones(2),
        "double": np.ones(2),
        "int": jnp.arange(2),
        "bool": np.array([True]),
        "key": jax.random.key(0),
        "number": 0.5,
        "text": "a",
    }
    y = convert(x)
    assert y["float"].dtype == y["double"].dtype == dtype
    assert isinstance(y["double"], np.ndarray)
    for name in ("int", "bool", "key", "number", "text"):
        assert y[name] is x[name]


def test_the_same_array_where_nothing_changes():
    x = jnp.ones(2)
    assert f32(x) is x
    assert f16(f16(x)).dtype == "float16"
    half = bf16(x)
    assert bf16(half) is half


def test_models_are_converted_with_their_ties():
    shared = fx.Dense(2, 2, fx.relu, bias=False)
    model = fx.Chain(shared, shared)
    half = f16(model)
    assert half.layers[0] is half.layers[1]
    assert half.layers[0].weight.dtype == "float16"
    assert half.layers[0].bias is None
    assert half.layers[0].activation is fx.relu
    assert model.layers[0].weight.dtype == "float32"
    assert f32(half).layers[0].weight.dtype == "float32"


def test_bfloat16_rounds_to_nearest_even():
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-12], np.float32)
    assert bf16(x).astype(np.float32).tolist() == [1.0, 1 + 2**-6, 1 + 2**-7]


def test_complex_arrays():
    x = np.ones(2, np.complex128)
    assert f32(x).dtype == np.complex64
    assert f16(x) is x


def test_what_a_layer_keeps_in_float32_stays():
    class Norm:
        __float32__ = ("mean",)

        def __init__(self):
            self.scale, self.mean = jnp.ones(2), jnp.zeros(2)

    half = bf16([Norm()])[0]
    assert half.scale.dtype == "bfloat16"
    assert half.mean.dtype == "float32"


def test_conversion_is_differentiable():
    (g,) = fx.gradient(lambda w: jnp.sum(f16(w) ** 2).astype("float32"), jnp.ones(2))
    assert g.dtype == "float32"
    assert g.tolist() == [2, 2]


def test_f64_needs_64_bits():
    with pytest.raises(RuntimeError, match=re.escape("write jax.config.update('jax_enable_x64', True)")):
        f64(jnp.ones(2))
    with jax.enable_x64(True):
        assert f64(fx.Dense(2, 2)).weight.dtype == "float64"
        assert f64(np.ones(2, np.complex64)).dtype == "complex128"
