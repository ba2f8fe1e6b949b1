"""Every rule: fifty steps on a small network beside PyTorch, Optax or the formula in NumPy; dtypes; hyperparameters."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch

import fluxion as fx

STEPS = 50
NAMES = ("layers[0].weight", "layers[0].bias", "layers[1].weight", "layers[1].bias")


def _problem():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    shapes = ((3, 4), (4,), (4, 2), (2,))
    return x, y, [rng.normal(size=shape) * 0.7 for shape in shapes]


def _loss(m, x, y):
    return fx.mse(m(x), y)


def _ours(rule, dtype="float32", steps=STEPS):
    x, y, start = _problem()
    model = fx.Chain(fx.Dense(3, 4, fx.tanh), fx.Dense(4, 2))
    for layer, weight, bias in zip(model, start[::2], start[1::2], strict=True):
        layer.weight, layer.bias = jnp.asarray(weight, dtype), jnp.asarray(bias, dtype)
    opt, batch = fx.setup(rule, model), (jnp.asarray(x, dtype), jnp.asarray(y, dtype))
    for _ in range(steps):
        fx.trainstep(_loss, model, batch, opt)
    return model, opt


def _torch(make, change=lambda params: None):
    x, y, start = _problem()
    x, y = torch.tensor(x), torch.tensor(y)
    params = [torch.tensor(p, requires_grad=True) for p in start]
    optimiser = make(params)
    for _ in range(STEPS):
        optimiser.zero_grad()
        ((torch.tanh(x @ params[0] + params[1]) @ params[2] + params[3] - y) ** 2).mean().backward()
        change(params)
        optimiser.step()
    return [p.detach().numpy() for p in params]


def _gradient():
    x, y, start = _problem()

    def loss(params):
        return jnp.mean((jnp.tanh(x @ params[0] + params[1]) @ params[2] + params[3] - y) ** 2)

    return jax.jit(jax.grad(loss)), start


def _optax(transformation, evaluate=lambda state, params: params):
    with jax.enable_x64(True):
        gradient, start = _gradient()
        params = [jnp.asarray(p) for p in start]
        state = transformation.init(params)

        @jax.jit
        def step(params, state):
            updates, state = transformation.update(gradient(params), state, params)
            return optax.apply_updates(params, updates), state

        for _ in range(STEPS):
            params, state = step(params, state)
        return [np.asarray(p) for p in evaluate(state, params)]


def _numpy(start_memory, step):
    """Fifty steps of a formula: `step(t, g, w, memory) -> (new w, new memory)` for one array."""
    with jax.enable_x64(True):
        gradient, params = _gradient()
        memories = [start_memory(p) for p in params]
        for t in range(1, STEPS + 1):
            gradients = [np.asarray(g) for g in gradient(params)]
            pairs = [step(t, g, p, m) for g, p, m in zip(gradients, params, memories, strict=True)]
            params, memories = ([pair[i] for pair in pairs] for i in range(2))
        return params


def _zeros(count):
    return lambda p: [np.zeros_like(p)] * count


def _lion(t, g, w, memory):
    (m,) = memory
    w = w - 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.2 * w)
    return w, [0.99 * m + 0.01 * g]


def _optimistic_adam(t, g, w, memory):
    m, v, before = memory
    m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
    now = m / (1 - 0.5**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
    return w - 0.02 * (2 * now - (now if t == 1 else before)), [m, v, now]


def _adabelief(t, g, w, memory):
    m, s = memory
    m = 0.9 * m + 0.1 * g
    s = 0.999 * s + 0.001 * (g - m) ** 2 + 1e-16
    return w - 0.02 * m / (1 - 0.9**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-16), [m, s]


def _sign_decay(t, g, w, memory):
    return w - 0.1 * (g + 0.03 * np.sign(w)), memory


def _clipped(limit, p):
    def step(t, g, w, memory):
        norm = np.linalg.norm(g.ravel(), p)
        return w - 0.3 * (g * limit / norm if norm > limit else g), memory

    return step


def _clip_together(params, limit):
    norm = torch.sqrt(sum((p.grad**2).sum() for p in params))
    for p in params:
        p.grad *= min(1.0, float(limit / norm))


def _sgd(**options):
    return lambda: _torch(lambda p: torch.optim.SGD(p, 0.1, **options))


def _optim(name, *args, **options):
    return lambda: _torch(lambda p: getattr(torch.optim, name)(p, *args, **options))


def _like_optax(transformation, **options):
    return lambda: _optax(transformation, **options)


def _chain(*rules):
    return fx.OptimiserChain(*rules)


RULES = {
    "Descent": (fx.Descent(0.1), _sgd()),
    "Momentum": (fx.Momentum(0.1, 0.8), _sgd(momentum=0.8)),
    "Nesterov": (fx.Nesterov(0.1, 0.8), _sgd(momentum=0.8, nesterov=True)),
    "RMSProp": (fx.RMSProp(0.01), _optim("RMSprop")),
    "RMSProp centred": (fx.RMSProp(0.01, 0.9, centred=True), _optim("RMSprop", 0.01, 0.9, centered=True)),
    "Rprop": (fx.Rprop(limits=(1e-6, 0.05)), _optim("Rprop", step_sizes=(1e-6, 0.05))),
    "AdaGrad": (fx.AdaGrad(0.1), _optim("Adagrad", 0.1)),
    "AdaDelta": (fx.AdaDelta(), _optim("Adadelta")),
    "Lion": (fx.Lion(0.01, decay=0.2), lambda: _numpy(_zeros(1), _lion)),
    "Adam": (fx.Adam(0.02), _optim("Adam", 0.02)),
    "AdamW": (fx.AdamW(0.02, decay=0.1), _optim("AdamW", 0.02, weight_decay=0.1)),
    "AdamW uncoupled": (
        fx.AdamW(0.02, decay=0.01, couple=False),
        _like_optax(optax.chain(optax.adam(0.02), optax.add_decayed_weights(-0.01))),
    ),
    "RAdam": (fx.RAdam(0.02), _optim("RAdam", 0.02)),
    "AdaMax": (fx.AdaMax(0.02), _optim("Adamax", 0.02)),
    "OAdam": (fx.OAdam(0.02), lambda: _numpy(_zeros(3), _optimistic_adam)),
    "AMSGrad": (fx.AMSGrad(0.02, (0.8, 0.9)), _optim("Adam", 0.02, (0.8, 0.9), amsgrad=True)),
    "NAdam": (fx.NAdam(0.02), _optim("NAdam", 0.02)),
    "AdaBelief": (fx.AdaBelief(0.02), lambda: _numpy(_zeros(2), _adabelief)),
    "Yogi": (fx.Yogi(0.02), _like_optax(optax.yogi(0.02))),
    "Adan": (fx.Adan(0.02, decay=0.1), _like_optax(optax.adan(0.02, weight_decay=0.1))),
    "Lamb": (fx.Lamb(0.02, decay=0.1), _like_optax(optax.lamb(0.02, weight_decay=0.1))),
    "Lars": (fx.Lars(10.0, decay=0.1), _like_optax(optax.lars(10.0, weight_decay=0.1))),
    "NovoGrad": (fx.NovoGrad(0.02, decay=0.1), _like_optax(optax.novograd(0.02, weight_decay=0.1))),
    "Adafactor": (fx.Adafactor(0.02), _like_optax(optax.adafactor(0.02))),
    "Muon": (
        fx.Muon(0.02, decay=0.1),
        _like_optax(optax.contrib.muon(0.02, weight_decay=0.1, adam_learning_rate=3e-4, adam_weight_decay=0.1)),
    ),
    "Prodigy": (fx.Prodigy(decay=0.1), _like_optax(optax.contrib.prodigy(weight_decay=0.1))),
    "DAdaptAdam": (fx.DAdaptAdam(decay=0.1), _like_optax(optax.contrib.dadapt_adamw(weight_decay=0.1))),
    "ScheduleFree": (
        fx.ScheduleFree(fx.AdamW(0.02, (0.0, 0.999), 0.1)),
        _like_optax(optax.contrib.schedule_free_adamw(0.02, weight_decay=0.1)),
    ),
    "WeightDecay": (_chain(fx.WeightDecay(0.3), fx.Descent(0.1)), _sgd(weight_decay=0.3)),
    "SignDecay": (_chain(fx.SignDecay(0.03), fx.Descent(0.1)), lambda: _numpy(_zeros(0), _sign_decay)),
    "ClipGrad": (
        _chain(fx.ClipGrad(0.05), fx.Descent(0.1)),
        lambda: _torch(lambda p: torch.optim.SGD(p, 0.1), lambda p: torch.nn.utils.clip_grad_value_(p, 0.05)),
    ),
    "ClipGlobalNorm": (
        _chain(fx.ClipGlobalNorm(0.3), fx.Descent(0.1)),
        lambda: _torch(lambda p: torch.optim.SGD(p, 0.1), lambda p: _clip_together(p, 0.3)),
    ),
    **{
        f"ClipNorm p={p}": (
            _chain(fx.ClipNorm(0.2, p), fx.Descent(0.3)),
            lambda p=p: _numpy(_zeros(0), _clipped(0.2, p)),
        )
        for p in (1, 2, 3.5, math.inf)
    },
}


@pytest.mark.parametrize("name", RULES)
def test_fifty_steps_equal_the_reference(name):
    rule, reference = RULES[name]
    expected = reference()
    model, _ = _ours(rule)
    start = _problem()[2]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(expected, start, strict=True)), "the problem is too easy"
    for path, array, wanted in zip(NAMES, fx.trainables(model).values(), expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=5e-5, err_msg=path)
    with jax.enable_x64(True):
        model, _ = _ours(rule, "float64")
        for path, array, wanted in zip(NAMES, fx.trainables(model).values(), expected, strict=True):
            assert array.dtype == jnp.float64
            np.testing.assert_allclose(array, wanted, rtol=1e-6, atol=1e-8, err_msg=path)


# what PyTorch has as options are rules of a chain
OPTIONS = {
    "SGD": (_chain(fx.WeightDecay(0.1), fx.Nesterov(0.1, 0.8)), _sgd(momentum=0.8, weight_decay=0.1, nesterov=True)),
    "RMSprop": (
        _chain(fx.WeightDecay(0.1), fx.RMSProp(0.01, 0.9, 1e-3, centred=True), fx.Momentum(1.0, 0.9)),
        _optim("RMSprop", 0.01, 0.9, 1e-3, momentum=0.9, centered=True, weight_decay=0.1),
    ),
    "Adam": (
        _chain(fx.WeightDecay(0.1), fx.AMSGrad(0.02, (0.8, 0.99), 1e-3)),
        _optim("Adam", 0.02, (0.8, 0.99), 1e-3, weight_decay=0.1, amsgrad=True),
    ),
    "AdamW": (fx.AdamW(0.02, (0.8, 0.9), 0.2, 1e-3), _optim("AdamW", 0.02, (0.8, 0.9), 1e-3, weight_decay=0.2)),
    "NAdam": (
        _chain(fx.WeightDecay(0.1), fx.NAdam(0.02, (0.8, 0.99), 1e-3, 0.1)),
        _optim("NAdam", 0.02, (0.8, 0.99), 1e-3, 0.1, 0.1),
    ),
    "RAdam": (
        _chain(fx.WeightDecay(0.1), fx.RAdam(0.02, (0.8, 0.9), 1e-3)),
        _optim("RAdam", 0.02, (0.8, 0.9), 1e-3, 0.1),
    ),
    "Adamax": (fx.AdaMax(0.02, (0.8, 0.9), 1e-3), _optim("Adamax", 0.02, (0.8, 0.9), 1e-3)),
    "Adadelta": (fx.AdaDelta(0.5, 0.8, 1e-4), _optim("Adadelta", 0.5, 0.8, 1e-4)),
    "Adagrad": (fx.AdaGrad(0.1, 1e-3), _optim("Adagrad", 0.1, eps=1e-3)),
    "Rprop": (fx.Rprop(0.02, (0.4, 1.3), (1e-4, 0.1)), _optim("Rprop", 0.02, (0.4, 1.3), (1e-4, 0.1))),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_torch_has_its_rule(name):
    rule, reference = OPTIONS[name]
    with jax.enable_x64(True):
        model, _ = _ours(rule, "float64")
    for array, wanted in zip(fx.trainables(model).values(), reference(), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-6, atol=1e-8)


def _instances():
    """Each rule once, by name, with the settings of the trajectories; clipping and decay with a rule behind them."""
    return {
        **{name.split()[0]: rule for name, (rule, _) in RULES.items()},
        "OptimiserChain": _chain(_chain(fx.ClipGrad(2.0), fx.WeightDecay(1e-4)), fx.Adam(0.05)),
        "AccumGrad": _chain(fx.AccumGrad(2), fx.Adam(0.1)),
        "MixedPrecision": fx.MixedPrecision(fx.Adam(0.1)),
        "EMA": _chain(fx.Adam(0.1), fx.EMA(0.9)),
        "Scheduler": fx.Scheduler(fx.Momentum, 0.1, rho=fx.schedules.Exp(0.9, 0.9)),
    }


INSTANCES = _instances()


def test_every_public_rule_is_tested():
    public = {
        name for name in vars(fx) if isinstance(getattr(fx, name), type) and issubclass(getattr(fx, name), fx.Rule)
    }
    assert public - {"Rule"} == set(INSTANCES)


@pytest.mark.parametrize("name", INSTANCES)
def test_a_rule_prints_as_it_is_typed(name):
    rule = INSTANCES[name]
    scope = {**vars(fx), **vars(fx.schedules), "inf": math.inf}
    assert repr(eval(repr(rule), scope)) == repr(rule)


FITS = {
    "Descent": fx.Descent(0.3),
    "Momentum": fx.Momentum(0.1),
    "Nesterov": fx.Nesterov(0.1),
    "AdaDelta": fx.AdaDelta(1.0, 0.9, 1e-3),
    "AdaGrad": fx.AdaGrad(1.0),
    "Rprop": fx.Rprop(),
    "Lion": fx.Lion(0.01),
    "Lars": fx.Lars(5.0),
    "Prodigy": fx.Prodigy(),
    "DAdaptAdam": fx.DAdaptAdam(),
    "Adafactor": fx.Adafactor(0.1),
    "Muon": fx.Muon(0.1, adam_learning_rate=0.1),
    "NovoGrad": fx.NovoGrad(0.05),
    "ScheduleFree": fx.ScheduleFree(fx.Descent(0.5)),
    "AccumGrad": _chain(fx.AccumGrad(2), fx.Momentum(0.2)),
    "MixedPrecision": fx.MixedPrecision(fx.Momentum(0.1)),
    "EMA": _chain(fx.Momentum(0.1), fx.EMA(0.9)),
    **{name: _chain(getattr(fx, name)(), fx.Momentum(0.1)) for name in ("ClipGrad", "ClipNorm", "ClipGlobalNorm")},
    **{name: _chain(getattr(fx, name)(1e-4), fx.Momentum(0.1)) for name in ("SignDecay", "WeightDecay")},
    "OptimiserChain": INSTANCES["OptimiserChain"],
    "Scheduler": fx.Scheduler(fx.Momentum, 0.1, rho=fx.schedules.Exp(0.9, 0.999)),
}


def _regression(dtype):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(32, 4))
    return jnp.asarray(x, dtype), jnp.asarray(x @ rng.normal(size=(4, 3)) * 0.5, dtype)


@pytest.mark.parametrize("name", INSTANCES)
def test_every_rule_solves_a_regression(name):
    rule = FITS.get(name) or getattr(fx, name)(0.05)
    batch = _regression("float32")
    model = fx.Dense(4, 3)
    opt = fx.setup(rule, model)
    loss = lambda m, x, y: fx.mse(m(x), y)
    fx.train(loss, model, [batch] * 50, opt, epochs=10)
    assert loss(model, *batch) < 0.01


@pytest.mark.parametrize("name", INSTANCES)
def test_half_precision_stays_and_is_remembered_in_float32(name):
    weights = {"w": jnp.full((2, 3), 0.5, "float16"), "b": jnp.full(3, -0.5, "bfloat16")}
    opt = fx.setup(INSTANCES[name], weights)
    gradient = {"w": jnp.full((2, 3), 1e-3, "float16"), "b": jnp.full(3, 2e-3, "bfloat16")}
    for _ in range(2):
        fx.update(opt, weights, gradient)
    assert [w.dtype.name for w in weights.values()] == ["float16", "bfloat16"]
    assert all(bool(jnp.isfinite(w).all()) for w in weights.values())
    remembered = [leaf for leaf in jax.tree.leaves(opt.state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    assert {leaf.dtype.name for leaf in remembered} <= {"float32"}


@pytest.mark.parametrize(
    "name", sorted(set(INSTANCES) - {"ClipGrad", "OptimiserChain", "Prodigy", "DAdaptAdam", "Rprop"})
)
def test_complex_parameters_go_downhill(name):
    start, target = np.array([[1 + 2j, -1j], [0.5 - 1j, 2 + 0j]]), 0.3 - 0.2j
    model = {"w": jnp.array(start)}
    opt = fx.setup(INSTANCES[name], model)
    loss = lambda m: jnp.sum(jnp.abs(m["w"] - target) ** 2)
    for _ in range(3):
        fx.update(opt, model, fx.gradient(loss, model)[0])
    assert model["w"].dtype == jnp.complex64
    assert float(loss(model)) < np.sum(np.abs(start - target) ** 2)
    step = np.asarray(model["w"]) - start
    assert np.all(np.real(np.conj(start - target) * step) < 0)


def _floats(rule):
    """The floats of a rule and its parts: name, value, and a function that puts another in its place."""
    for part in (rule, *rule.parts()):
        for name, value in part.hyperparameters().items():
            if type(value) is float:
                yield name, value, lambda new: new
            elif type(value) is tuple and all(type(entry) is float for entry in value):
                for i, entry in enumerate(value):
                    yield name, entry, lambda new, i=i, value=value: (*value[:i], new, *value[i + 1 :])


def _loss_of_two(m, x):
    return jnp.sum(jnp.tanh(m["w"]) ** 2 * x) + jnp.sum(jnp.exp(m["b"]))


def _weights_after(opt, weights, steps):
    for _ in range(steps):
        fx.trainstep(_loss_of_two, weights, jnp.arange(1.0, 3), opt)
    return np.concatenate([np.ravel(w) for w in weights.values()])


@pytest.mark.parametrize("name", INSTANCES)
def test_every_float_may_change_between_steps_without_compiling_anew(name):
    rule = eval(repr(INSTANCES[name]), {**vars(fx), **vars(fx.schedules), "inf": math.inf})
    start = lambda: {"w": jnp.array([[0.5, -0.3]]), "b": jnp.array([0.2])}
    opt, weights = fx.setup(rule, start()), start()
    _weights_after(opt, weights, 1)
    compiled = fx.explain(_loss_of_two).count
    for hyperparameter, value, put in list(_floats(rule)):
        fx.adjust(opt, **{hyperparameter: put(value * 0.9)})
        _weights_after(opt, weights, 1)
    assert fx.explain(_loss_of_two).count == compiled


CHANGES = {
    "Momentum": {"learning_rate": 0.3, "rho": 0.5},
    "RMSProp": {"learning_rate": 0.3, "rho": 0.5, "epsilon": 0.1},
    "Rprop": {"factors": (0.3, 1.5), "limits": (0.1, 0.2)},
    "Adam": {"learning_rate": 0.3, "beta": (0.5, 0.6), "epsilon": 0.1},
    "NAdam": {"learning_rate": 0.3, "beta": (0.5, 0.6), "epsilon": 0.1, "momentum_decay": 0.1},
    "Muon": {"learning_rate": 0.3, "beta": 0.5, "adam_learning_rate": 0.1, "decay": 0.5, "adam_beta": (0.5, 0.6)},
    "Prodigy": {"learning_rate": 0.3, "beta": (0.5, 0.6), "decay": 0.5},
    "ClipNorm": {"limit": 0.01, "learning_rate": 0.3, "p": 1},
    "ScheduleFree": {"learning_rate": 0.3, "beta": (0.0, 0.5), "decay": 0.5},
    "EMA": {"learning_rate": 0.3, "beta": (0.5, 0.6)},
    "AccumGrad": {"n": 3, "learning_rate": 0.3},
    "MixedPrecision": {"learning_rate": 0.3},
    "Scheduler": {"learning_rate": 0.3, "rho": 0.2},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_hyperparameter_acts_as_if_it_had_been_given(name):
    scope = {**vars(fx), **vars(fx.schedules), "inf": math.inf}
    start = lambda: {"w": jnp.array([[0.5, -0.3]]), "b": jnp.array([0.2])}
    adjusted = fx.setup(eval(repr(INSTANCES[name]), scope), start())
    fx.adjust(adjusted, **CHANGES[name])
    given = fx.setup(eval(repr(adjusted.rule), scope), start())
    untouched = fx.setup(eval(repr(INSTANCES[name]), scope), start())
    results = [_weights_after(opt, start(), 3) for opt in (adjusted, given, untouched)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2])


@pytest.mark.parametrize(
    "name",
    [name for name, rule in INSTANCES.items() if "learning_rate" in vars(rule) and name not in ("Rprop", "Scheduler")],
)
def test_every_learning_rate_may_be_a_schedule(name):
    rule = INSTANCES[name]
    fields = {**vars(rule), "learning_rate": lambda step: rule.learning_rate}
    params, gradients = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"w": jnp.full((2, 3), 0.1), "b": jnp.full(3, -0.3)}
    results = []
    for made in (rule, type(rule)(**fields)):
        transformation = made.transformation()
        results.append(transformation.update(gradients, transformation.init(params), params)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *results)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.Adam(-1.0), "learning_rate cannot be negative, got -1.0"),
        (lambda: fx.Adam("fast"), "learning_rate is a number, got 'fast'"),
        (lambda: fx.Adam(1j), "learning_rate is a number, got 1j of type complex"),
        (lambda: fx.Adam(math.nan), "learning_rate cannot be NaN"),
        (lambda: fx.Adam(True), "learning_rate is a number, got True"),
        (lambda: fx.Adam(1e-3, (0.9,)), "beta is a pair of numbers"),
        (lambda: fx.Adam(1e-3, (0.9, 1.5)), r"beta\[1\] cannot be above 1"),
        (lambda: fx.Adan(1e-3, (0.9, 0.9)), "beta is a triple of numbers"),
        (lambda: fx.Momentum(0.1, -0.5), "rho cannot be negative"),
        (lambda: fx.Rprop(0.1, (0.5, 0.9)), r"factors\[1\] cannot be below 1, got 0.9"),
        (lambda: fx.Rprop(0.1, limits=(1.0, 0.5)), r"limits\[1\] cannot be below 1, got 0.5"),
        (lambda: fx.Rprop(lambda step: 0.1), "learning_rate is a number, got"),
        (lambda: fx.ClipNorm(None), "limit is a number"),
        (lambda: fx.ClipNorm(1.0, "two"), "p is a number, got 'two'"),
        (lambda: fx.AccumGrad(0), "n is a whole number from 1 on, got 0"),
        (lambda: fx.AccumGrad(2.0), "n is a whole number, got 2.0 of type float"),
        (lambda: fx.EMA(1.5), "decay cannot be above 1"),
        (lambda: fx.ScheduleFree(fx.ClipGrad()), "takes a rule with a learning rate"),
        (lambda: fx.ScheduleFree(fx.Descent(), 0), "interpolation is above 0"),
        (lambda: fx.MixedPrecision(optax.adam(1e-3)), "MixedPrecision takes a rule such as Adam"),
        (lambda: fx.MixedPrecision(fx.Adam(), int), "dtype is a floating-point type, got int"),
        (lambda: fx.OptimiserChain(fx.MixedPrecision(fx.Adam())), r"MixedPrecision goes around a chain"),
        (lambda: fx.OptimiserChain(fx.Adam(), 3), "takes rules such as"),
        (lambda: fx.OptimiserChain(fx.ClipGrad(), optax.sgd(0.1)), "last part"),
        (lambda: fx.OptimiserChain(fx.EMA(), fx.Adam()), "EMA.* is the last rule of a chain"),
        (lambda: _chain(_chain(fx.Adam(), fx.Scheduler(fx.EMA, 0.9)), fx.Descent()), "is the last rule of a chain"),
        (lambda: fx.ScheduleFree(_chain(fx.AccumGrad(2), fx.Adam())), "AccumGrad cannot be inside ScheduleFree"),
        (lambda: fx.ScheduleFree(fx.MixedPrecision(fx.Adam())), "MixedPrecision cannot be inside ScheduleFree"),
        (lambda: fx.Scheduler(fx.AccumGrad, 2), "AccumGrad cannot be inside Scheduler"),
        (lambda: fx.Scheduler(fx.Rprop, lambda step: 0.1), "learning_rate of Rprop stays as it is"),
        (lambda: fx.Adam(fx.Dense(2, 2)), r"is a number or a function of the step; Dense\(2, 2\).* fails at step 0"),
        (lambda: fx.Adam(lambda step: None), "learning_rate at step 0 is a number, got None"),
        (lambda: fx.Adam(lambda step: -1.0), "learning_rate at step 0 cannot be negative"),
        (lambda: fx.Adam(jnp.ones(2)), "learning_rate is a number, got Array"),
        (lambda: fx.Adam(lr=1e-3), "Adam has no argument 'lr', write learning_rate; it takes learning_rate, beta, eps"),
        (lambda: fx.Adam(betas=(0.9, 0.99)), "no argument 'betas', write beta"),
        (lambda: fx.AdamW(weight_decay=0.1), "no argument 'weight_decay', write decay"),
        (lambda: fx.Adam(weight_decay=0.1), "no argument 'weight_decay', put WeightDecay before the rule"),
        (lambda: fx.Descent(0.1, momentum=0.9), "Descent has no argument 'momentum', use Momentum"),
        (lambda: fx.Momentum(momentum=0.9), "Momentum has no argument 'momentum', write rho"),
        (lambda: fx.RMSProp(centered=True), "no argument 'centered', write centred"),
        (lambda: fx.Adam(learning_rat=0.1), "no argument 'learning_rat', write learning_rate"),
        (lambda: fx.Adam(speed=0.1), "no argument 'speed'; it takes"),
        (lambda: fx.Scheduler(fx.Adam, lr=0.1), "Adam has no argument 'lr', write learning_rate"),
        (lambda: fx.setup(fx.Rule(), fx.Dense(1, 1)), r"Rule has no direction\(\), which every rule gives"),
    ],
)
def test_hyperparameters_are_checked(make, message):
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=message):
        make()


def test_numbers_of_every_kind_become_floats():
    assert repr(fx.Descent(jnp.float32(0.5))) == repr(fx.Descent(np.array(0.5))) == "Descent(learning_rate=0.5)"
    rule = fx.Adam(1, (np.float32(0.5), 0), np.int64(2))
    assert repr(rule) == "Adam(learning_rate=1.0, beta=(0.5, 0.0), epsilon=2.0)"
    assert repr(fx.Momentum(rho=0.5)) == repr(fx.Momentum(0.01, 0.5))


@pytest.mark.parametrize("p", [-math.inf, -2, 0, 0.5, 1, 2, 3.5, math.inf])
def test_clip_norm_takes_any_norm(p):
    gradient = np.array([[3.0, -4.0], [0.5, 1.0]])
    norm = np.linalg.norm(gradient.ravel(), p)
    for limit in (norm / 2, norm * 2):
        clipped = fx.ClipNorm(limit, p).direction().update({"w": jnp.asarray(gradient)}, optax.EmptyState())[0]["w"]
        np.testing.assert_allclose(clipped, gradient * min(1, limit / norm), rtol=1e-5)


def test_clipping_survives_large_zero_and_missing_numbers():
    clip = lambda rule, values: rule.direction().update({"w": jnp.array(values)}, optax.EmptyState())[0]["w"]
    np.testing.assert_allclose(clip(fx.ClipNorm(1.0), [3e30, -4e30]), [0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(clip(fx.ClipGlobalNorm(1.0), [3e30, -4e30]), [0.6, -0.8], rtol=1e-6)
    assert clip(fx.ClipNorm(1.0), [0.0, 0.0]).tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(clip(fx.ClipNorm(1.0), [math.nan, 5.0]), [math.nan, 5.0])
    assert clip(fx.ClipGrad(0.5), [math.inf, -0.2]).tolist() == pytest.approx([0.5, -0.2])
