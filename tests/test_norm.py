"""Normalisation layers: statistics, modes, precision, and what WeightNorm does to models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cases.norm import first, last
from checks import numbers
from harness import cases_of

import fluxion as fx
from fluxion.mode import gradient_mode


@pytest.mark.parametrize("case", cases_of("norm"), ids=str)
def test_case(case):
    case.check()


@pytest.mark.parametrize("case", cases_of("norm"), ids=str)
def test_random_options(case):
    case.check_random()


def single(*shape, seed=0):
    return numbers(*shape, seed=seed).astype(np.float32)


def close(mine, theirs, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(mine, theirs.detach().numpy() if hasattr(theirs, "detach") else theirs, rtol, atol)


# ------------------------------------------------------------------ running statistics


@pytest.mark.parametrize("momentum", [0.1, 0.3])
@pytest.mark.parametrize("name", ["BatchNorm", "InstanceNorm"])
def test_ten_batches_of_statistics_as_torch(name, momentum):
    options = {"affine": True, "momentum": momentum}
    theirs = getattr(torch.nn, f"{name}2d")(3, track_running_stats=True, **options)
    mine = getattr(fx, name)(3, track_stats=True, **options)
    for seed in range(10):
        image = 2 + single(2, 4, 3, 3, seed=seed)
        wanted = last(theirs(first(torch.tensor(image))))
        with gradient_mode():
            close(mine(image), wanted)
    close(mine.mean, theirs.running_mean)
    close(mine.var, theirs.running_var)
    theirs.eval()
    before = mine.mean
    close(mine(image), last(theirs(first(torch.tensor(image)))))
    assert mine.mean is before


def test_statistics_that_are_not_tracked():
    x = single(4, 3)
    layer = fx.BatchNorm(3, track_stats=False)
    close(layer(x).mean(0), np.zeros(3))
    with gradient_mode():
        layer(x)
    assert layer.mean is None and layer.var is None
    with pytest.raises(fx.SizeError, match="expects more than one value per channel"):
        layer(x[:1])


def test_batchnorm_as_flux():
    layer, x = fx.BatchNorm(2, active=True), jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    close(layer(x), [[-1.22474, -1.22474], [0, 0], [1.22474, 1.22474]])
    close(layer.mean, [0.3, 0.4])
    close(layer.var, [1.3, 1.3])
    close(fx.BatchNorm(2, fx.sigmoid)(x), jax.nn.sigmoid(x / np.sqrt(1 + 1e-5)))


def test_instancenorm_as_flux():
    x = jnp.arange(1.0, 13).reshape(2, 2, 3).transpose(0, 2, 1)
    layer = fx.InstanceNorm(2, track_stats=True, active=True)
    close(layer(x)[0, :, 0], [-1.22474, 0, 1.22474])
    close(layer.mean, [0.5, 0.8])
    close(layer.var, [1, 1])
    close(fx.testmode(layer) or layer(x)[0, 0], [0.5, 3.2])


def test_groupnorm_as_flux():
    x = jnp.arange(1.0, 25).reshape(2, 4, 3).transpose(0, 2, 1)
    row = np.array([-1.46385, -0.87831, -0.29277, 0.29277, 0.87831, 1.46385]).reshape(2, 3)
    close(fx.GroupNorm(4, 2)(x), np.broadcast_to(np.concatenate([row, row]).T, (2, 3, 4)))


def test_norms_equal_each_other():
    x = single(2, 5, 4)
    close(fx.GroupNorm(4, 4)(x), fx.InstanceNorm(4)(x))
    close(fx.GroupNorm(4, 4)(x[:1]), fx.BatchNorm(4, active=True)(x[:1]))
    close(fx.GroupNorm(4, 1)(x), fx.LayerNorm(5, 4)(x))
    squashed = x.transpose(1, 0, 2).reshape(5, 8)
    batch = fx.BatchNorm(8, active=True)(squashed).reshape(5, 2, 4).transpose(1, 0, 2)
    close(fx.InstanceNorm(4)(x), batch)
    close(fx.GroupNorm(4, 2)(x[:, 0]), torch.nn.functional.group_norm(torch.tensor(x[:, 0]), 2), atol=1e-4)


def test_statistics_have_no_gradient():
    layer, x = fx.BatchNorm(3, active=True), single(4, 3)

    def loss(x):
        layer(x)
        return layer.mean.sum() + layer.var.sum()

    assert (jax.grad(loss)(x) == 0).all()
    layer = fx.BatchNorm(3)
    assert list(fx.trainables(layer)) == ["scale", "bias"]
    assert not fx.trainables(fx.InstanceNorm(3, track_stats=True)) and not fx.trainables(fx.RMSNorm(3, affine=False))
    (g,) = fx.gradient(lambda m: m(x).sum(), layer)
    assert g.scale.shape == (3,) and g.mean is None


def test_training_tracks_once_a_step_and_testing_never():
    model = fx.Chain(fx.Dense(3, 2), fx.BatchNorm(2))
    x, y = single(6, 3), single(6, 2)
    opt = fx.setup(fx.Descent(0.0), model)
    fx.train(lambda m, x, y: fx.mse(m(x), y), model, [(x, y)] * 2, opt)
    mean = np.asarray(model[0](x)).mean(0)
    close(model[1].mean, 0.1 * mean + 0.9 * 0.1 * mean)
    fx.testmode(model)
    before = model[1].mean
    fx.train(lambda m, x, y: fx.mse(m(x), y), model, [(x, y)], opt)
    assert (model[1].mean == before).all()


# ------------------------------------------------------------------ modes


def test_modes():
    x, norm = single(4, 3), fx.BatchNorm(3)
    zeros = norm.mean
    norm(x)
    assert norm.mean is zeros
    fx.trainmode(norm)
    norm(x)
    moved = norm.mean
    assert (moved != 0).all() and norm.typed() == "BatchNorm(3, active=True)"
    fx.testmode(norm)
    with gradient_mode():
        norm(x)
    assert norm.mean is moved and norm.typed() == "BatchNorm(3, active=False)"
    assert norm(x[:1]).shape == (1, 3)
    fx.testmode(norm, "auto")
    assert norm.active is None
    with pytest.raises(fx.SizeError, match="expects more than one value per channel"):
        fx.gradient(lambda m: m(x[:1]).sum(), norm)
    norm.active = True
    model = fx.Chain(fx.WeightNorm(fx.Dense(3, 3)), norm)
    fx.testmode(model)
    assert norm.active is False


# ------------------------------------------------------------------ precision


NORMS = [
    lambda: fx.BatchNorm(4),
    lambda: fx.InstanceNorm(4, affine=True, track_stats=True),
    lambda: fx.GroupNorm(4, 2),
    lambda: fx.LayerNorm(4),
    lambda: fx.RMSNorm(4),
]


@pytest.mark.parametrize("convert", [fx.f16, fx.bf16])
@pytest.mark.parametrize("make", NORMS)
def test_norms_of_half_models_keep_float32(make, convert):
    model = convert(fx.Chain(fx.Dense(4, 4), make()))
    norm, half = model[1], model[0].weight.dtype
    x = (100 + single(3, 5, 4)).astype(half)
    (g,) = fx.gradient(lambda m: m(x).astype(jnp.float32).sum(), model)
    arrays = [getattr(norm, name, None) for name in ("scale", "bias", "mean", "var")]
    assert {array.dtype for array in arrays if array is not None} == {jnp.dtype("float32")}
    assert model(x).dtype == half and g.layers[0].weight.dtype == half and g.layers[1].scale.dtype == jnp.float32
    close(np.asarray(norm(x), np.float32), norm(x.astype(np.float32)), rtol=1e-2, atol=5e-2)
    assert fx.f32(model)[0].weight.dtype == jnp.float32
    with jax.enable_x64(True):
        wide = fx.f64(model)
        assert wide[1].scale.dtype == jnp.float64 and wide(np.asarray(x, np.float64)).dtype == jnp.float64


@pytest.mark.parametrize(
    "function", [fx.layernorm, lambda x: fx.groupnorm(x, 1), fx.normalise, lambda x: fx.batchnorm(x)[0]]
)
def test_large_means_do_not_spoil_the_variance(function):
    x = single(8, 16)
    close(function(x + np.float32(4096)), function(x), atol=2e-3)


def test_rmsnorm_epsilon_as_torch():
    x = np.full((1, 4), 1e-4, np.float32)
    close(fx.rmsnorm(x), torch.nn.functional.rms_norm(torch.tensor(x), (4,)))
    half = x.astype(np.float16)
    close(np.asarray(fx.rmsnorm(half), np.float32), fx.rmsnorm(half.astype(np.float32)), rtol=1e-3)
    assert fx.RMSNorm(4, eps=1e-3).typed() == "RMSNorm(4, eps=0.001)"


def test_layernorm_has_a_gradient_for_each_argument():
    x, scale, bias = single(3, 5), single(5, seed=1), single(5, seed=2)

    def loss(x, scale, bias, eps):
        return (fx.layernorm(x, scale, bias, eps=eps) ** 3).sum()

    tensors = [torch.tensor(array, requires_grad=True) for array in (x, scale, bias)]
    eps = torch.tensor(0.1, requires_grad=True)
    centred = tensors[0] - tensors[0].mean(1, keepdim=True)
    y = centred / torch.sqrt((centred**2).mean(1, keepdim=True) + eps) * tensors[1] + tensors[2]
    wanted = torch.autograd.grad((y**3).sum(), [*tensors, eps])
    for mine, theirs in zip(jax.grad(loss, (0, 1, 2, 3))(x, scale, bias, 0.1), wanted, strict=True):
        close(mine, theirs, rtol=1e-3)


# ------------------------------------------------------------------ WeightNorm


def test_weightnorm_does_not_change_its_layer():
    x = single(3, 2)
    for axes, size in [(None, (1, 4)), (0, (1, 4)), (-1, (2, 1)), ((0, 1), (1, 1))]:
        layer = fx.Dense(2, 4, fx.relu)
        normed = fx.WeightNorm(layer, axes=axes)
        close(normed(x), layer(x))
        assert normed.g.shape == size and normed.layer is layer
        assert list(fx.trainables(normed)) == ["layer.weight", "layer.bias", "g"]
    assert fx.WeightNorm(fx.Conv((3,), 2, 4)).g.shape == (1, 1, 4)
    layer = fx.Dense(2, 4, bias=jnp.arange(4.0))
    of_bias = fx.WeightNorm(layer, "bias")
    close(of_bias(x), layer(x))
    assert of_bias.g.shape == (1,) and of_bias.typed() == "WeightNorm(Dense(2, 4), 'bias')"


def test_weightnorm_with_a_zero_column_has_finite_gradients():
    weight = jnp.array([[1.0, 0.0], [2.0, 0.0]])
    normed = fx.WeightNorm(fx.Dense.from_arrays(weight))
    (g,) = fx.gradient(lambda m: m(jnp.ones(2)).sum(), normed)
    assert all(np.isfinite(leaf).all() for leaf in fx.leaves(g)) and normed(jnp.ones(2)).tolist() == [3, 0]


def test_weightnorm_trains_prints_and_freezes():
    x, y = single(16, 3), single(16, 1)
    model = fx.Chain(fx.WeightNorm(fx.Dense(3, 4, fx.tanh)), fx.Dense(4, 1))
    loss = lambda m, x, y: fx.mse(m(x), y)
    assert "WeightNorm(Dense(3, 4, tanh)),  # 20 parameters" in str(model)
    compiled = fx.compile(model)
    close(compiled(x), model(x))
    before = float(loss(model, x, y))
    fx.train(loss, model, [(x, y)] * 30, fx.setup(fx.Adam(0.05), model))
    assert float(loss(model, x, y)) < before
    close(compiled(x), model(x))
    direction, length = model[0].layer.weight, model[0].g
    fx.freeze(model[0].layer)
    fx.train(loss, model, [(x, y)], fx.setup(fx.Adam(0.05), model))
    assert (model[0].layer.weight == direction).all() and (model[0].g != length).any()


def test_weightnorm_hands_back_what_its_layer_writes():
    normed = fx.WeightNorm(fx.BatchNorm(3, active=True), "scale")
    scale = normed.layer.scale
    x = single(4, 3)
    normed(x)
    moved = normed.layer.mean
    assert (moved != 0).all() and normed.layer.scale is scale
    fx.compile(lambda x: normed(x))(x)
    assert (normed.layer.mean != moved).all() and (normed.layer.scale == scale).all()


def test_weightnorm_in_half_precision():
    model = fx.bf16(fx.WeightNorm(fx.Dense(3, 4)))
    assert model.g.dtype == jnp.bfloat16 and model(jnp.ones((1, 3), jnp.bfloat16)).dtype == jnp.bfloat16


def test_remove_weight_norms():
    x = single(3, 2)
    shared = fx.WeightNorm(fx.Dense(2, 2))
    shared.g = -2 * shared.g

    class Mine:
        def __init__(self):
            self.parts = {"a": shared, "f": lambda x: shared(x)}

        def __call__(self, x):
            return self.parts["f"](self.parts["a"](x))

    model = fx.Chain(fx.Chain(shared), Mine(), fx.WeightNorm(fx.Dense(2, 1)))
    wanted = model(x)
    assert fx.remove_weight_norms(model) is model
    close(model(x), wanted)
    assert not any(isinstance(part, fx.WeightNorm) for part in fx.tree.objects(model))
    assert model[0][0] is model[1].parts["a"] and type(model[2]) is fx.Dense
    alone = fx.WeightNorm(fx.Dense(2, 1))
    assert type(fx.remove_weight_norms(alone)) is fx.Dense and alone(x).shape == (3, 1)
    plain = fx.Dense(2, 1)
    assert fx.remove_weight_norms(plain) is plain
    with pytest.raises(TypeError, match="a WeightNorm in a tuple cannot be replaced"):
        fx.remove_weight_norms([(fx.WeightNorm(fx.Dense(2, 1)),)])


def test_remove_weight_norms_of_layers_that_share():
    x, layer = single(3, 2), fx.Dense(2, 2)
    one, two = fx.WeightNorm(layer), fx.WeightNorm(layer)
    one.g, nested = 2 * one.g, fx.WeightNorm(two, "g")
    nested.g = 3 * nested.g
    model = fx.Chain(one, layer, two, nested)
    wanted = model(x)
    close(fx.remove_weight_norms(model)(x), wanted)
    assert model[1] is layer and all(type(part) is fx.Dense for part in model)
    assert model[0].bias is model[1].bias


# ------------------------------------------------------------------ arrays of other sizes and types


def test_arrays_without_entries():
    for make, shape in [(lambda: fx.GroupNorm(4, 2), (0, 3, 4)), (lambda: fx.LayerNorm(4), (0, 4))]:
        assert make()(np.zeros(shape)).shape == shape
    assert fx.groupnorm(np.zeros((2, 0, 4)), 2).shape == (2, 0, 4) and fx.layernorm(np.zeros((3, 0))).shape == (3, 0)
    layer = fx.InstanceNorm(3, track_stats=True, active=True)
    layer(np.zeros((0, 4, 3)))
    assert layer.mean.tolist() == [0, 0, 0] and layer.var.tolist() == [1, 1, 1]


def test_statistics_that_do_not_fit():
    x = single(6, 4)
    for call, error, text in [
        (lambda: fx.batchnorm(x, np.zeros(1), np.ones(1)), fx.SizeError, r"batchnorm expects mean of shape \(4,\)"),
        (
            lambda: fx.batchnorm(x, scale=np.ones((6, 4))),
            fx.SizeError,
            r"expects scale of shape \(4,\), got .* \(6, 4\)",
        ),
        (lambda: fx.batchnorm(x, np.zeros(4)), TypeError, "takes both running statistics or none, got mean"),
        (lambda: fx.layernorm(x, axes=(1,)), ValueError, r"an int of at least 1, got \(1,\)"),
        (lambda: fx.layernorm(x, axes=3), fx.SizeError, "expects an array with at least 3 axes"),
        (lambda: fx.normalise(x, 2), fx.SizeError, r"normalise has no axis 2 in an array of shape \(6, 4\)"),
    ]:
        with pytest.raises(error, match=text):
            call()
    _, mean, var = fx.batchnorm(x, [0] * 4, [1] * 4, training=True)
    close(mean, 0.1 * x.mean(0))
    close(var, 0.9 + 0.1 * x.var(0, ddof=1))


@pytest.mark.parametrize("function", [fx.layernorm, fx.rmsnorm, fx.normalise])
def test_complex_numbers_have_absolute_values(function):
    z = (single(3, 5) + 1j * single(3, 5, seed=1)).astype(np.complex64)
    centred = z if function is fx.rmsnorm else z - z.mean(1, keepdims=True)
    close(function(z), centred / np.sqrt((abs(centred) ** 2).mean(1, keepdims=True) + 1e-5), rtol=1e-3)


def test_complex_gradients_of_both_forms_agree():
    z = (single(3, 5) + 1j * single(3, 5, seed=1)).astype(np.complex64)
    weight = single(3, 5, seed=2) + 1j * single(3, 5, seed=3)
    rows, any_axis = (
        jax.grad(lambda z, f=f: jnp.real(jnp.vdot(weight, f(z))))(z) for f in (fx.layernorm, fx.normalise)
    )
    close(rows, any_axis)
