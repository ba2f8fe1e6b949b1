"""Rules made of rules: collected gradients, master weights, averages of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx


def _problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 3)).astype("f"), rng.normal(size=(16, 2)).astype("f")


def _pair():
    return {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}


def _pairs_of_gradients(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"w": jnp.asarray(rng.normal(size=2), "f"), "b": jnp.asarray(rng.normal(size=1), "f")} for _ in range(count)
    ]


def test_collected_gradients_act_as_their_mean():
    gradients = _pairs_of_gradients(12)
    chain = fx.OptimiserChain(fx.WeightDecay(0.1), fx.Adam(0.1))
    each, collected = _pair(), _pair()
    opt = fx.setup(chain, each)
    for i in range(0, 12, 4):
        fx.update(opt, each, jax.tree.map(lambda *g: sum(g) / 4, *gradients[i : i + 4]))
    opt = fx.setup(fx.OptimiserChain(fx.AccumGrad(4), chain), collected)
    trace = []
    for g in gradients:
        fx.update(opt, collected, g)
        trace.append(np.asarray(collected["w"]))
    np.testing.assert_allclose(collected["w"], each["w"], rtol=1e-6)
    np.testing.assert_allclose(collected["b"], each["b"], rtol=1e-6)
    assert [i for i in range(1, 12) if not np.array_equal(trace[i], trace[i - 1])] == [3, 7, 11]
    assert trace[0].tolist() == [1.0, -2.0]


def test_collecting_inside_the_training_step_equals_a_larger_batch():
    x, y = _problem()
    loss = lambda m, x, y: fx.mse(m(x), y)
    whole, parts = fx.Dense(3, 2), fx.Dense(3, 2)
    parts.weight, parts.bias = whole.weight + 0, whole.bias + 0
    fx.train(loss, whole, [(x, y)], fx.setup(fx.AdamW(0.1), whole), epochs=3)
    quarters = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 16, 4)]
    opt = fx.setup(fx.OptimiserChain(fx.AccumGrad(4), fx.AdamW(0.1)), parts)
    fx.train(loss, parts, quarters, opt, epochs=3)
    np.testing.assert_allclose(parts.weight, whole.weight, rtol=1e-4, atol=1e-6)


def test_rules_before_collecting_act_on_every_gradient_and_schedules_behind_count_the_steps():
    gradients = [{"w": jnp.full(2, 3.0), "b": jnp.full(1, -3.0)}, {"w": jnp.zeros(2), "b": jnp.zeros(1)}] * 2
    for schedule in (lambda step: 1.0 / (1 + step), lambda step: 1.0 if step < 1 else 0.5):
        weights = _pair()
        chain = fx.OptimiserChain(fx.ClipGrad(1.0), fx.OptimiserChain(fx.AccumGrad(2)), fx.Descent(schedule))
        opt = fx.setup(chain, weights)
        for g in gradients:
            fx.update(opt, weights, g)
        np.testing.assert_allclose(weights["w"], [1 - 0.5 - 0.25, -2 - 0.5 - 0.25])


def test_another_count_of_collected_gradients_may_be_asked_for_at_any_time():
    weights = _pair()
    opt = fx.setup(fx.OptimiserChain(fx.AccumGrad(4), fx.Descent(1.0)), weights)
    for gradient in (3.0, 6.0, 9.0):
        fx.update(opt, weights, {"w": jnp.full(2, gradient), "b": jnp.ones(1)})
    fx.adjust(opt, n=2)
    fx.update(opt, weights, {"w": jnp.full(2, 2.0), "b": jnp.ones(1)})
    np.testing.assert_allclose(weights["w"], [1 - 5, -2 - 5])


def test_collecting_alone_and_an_empty_chain_subtract_the_gradient():
    for rule, times in ((fx.AccumGrad(2), 2), (fx.OptimiserChain(), 1)):
        weights = _pair()
        opt = fx.setup(rule, weights)
        for _ in range(times):
            fx.update(opt, weights, {"w": jnp.ones(2), "b": jnp.ones(1)})
        assert weights["w"].tolist() == [0.0, -3.0]


def test_collected_gradients_of_what_is_left_out_are_kept():
    weights = _pair()
    opt = fx.setup(fx.OptimiserChain(fx.AccumGrad(2), fx.Descent(1.0)), weights)
    fx.update(opt, weights, {"w": jnp.ones(2), "b": jnp.ones(1)})
    fx.update(opt, weights, {"w": jnp.ones(2), "b": None})
    assert weights["w"].tolist() == [0.0, -3.0]
    assert weights["b"].tolist() == [0.5]


def test_mixed_precision_follows_float32_training():
    gradients = _pairs_of_gradients(60)
    precise, plain, mixed = _pair(), fx.bf16(_pair()), fx.bf16(_pair())
    rule = fx.OptimiserChain(fx.WeightDecay(0.1), fx.Adam(1e-3))
    states = [fx.setup(rule, precise), fx.setup(rule, plain), fx.setup(fx.MixedPrecision(rule), mixed)]
    for g in gradients:
        for opt, weights in zip(states, (precise, plain, mixed), strict=True):
            fx.update(opt, weights, fx.fmap(lambda x, w: x.astype(w.dtype), g, weights))
    assert mixed["w"].dtype == jnp.bfloat16
    off = lambda weights: float(jnp.max(jnp.abs(weights["w"].astype(jnp.float32) - precise["w"])))
    assert off(mixed) < 0.008  # half a unit of bfloat16 at 2
    assert off(plain) > off(mixed)


def test_mixed_precision_gathers_steps_that_half_precision_would_lose():
    weights = {"w": jnp.ones(2, jnp.float16), "precise": jnp.ones(2)}
    opt = fx.setup(fx.MixedPrecision(fx.Descent(1.0)), weights)
    step = {"w": jnp.full(2, 1e-4, jnp.float16), "precise": jnp.full(2, 1e-4)}
    for _ in range(100):
        fx.update(opt, weights, step)
    np.testing.assert_allclose(weights["w"].astype(jnp.float32), 0.99, atol=5e-4)
    assert list(opt.state.masters) == ["['w']"]
    weights["w"] = jnp.full(2, 3.0, jnp.float16)
    fx.update(opt, weights, step)
    assert weights["w"].tolist() == [3.0, 3.0]
    np.testing.assert_allclose(opt.state.masters["['w']"], 3 - 1e-4, rtol=1e-6)
    fx.update(opt, weights, {"w": None, "precise": jnp.ones(2)})
    np.testing.assert_allclose(opt.state.masters["['w']"], 3 - 1e-4, rtol=1e-6)


def test_master_weights_of_a_given_precision():
    with jax.enable_x64(True):
        weights = {"w": jnp.ones(2, jnp.float32), "z": jnp.ones(2, jnp.complex64)}
        opt = fx.setup(fx.MixedPrecision(fx.Adam(), "float64"), weights)
        assert {path: w.dtype.name for path, w in opt.state.masters.items()} == {"['w']": "float64"}
        assert repr(opt.rule) == (
            "MixedPrecision(Adam(learning_rate=0.001, beta=(0.9, 0.999), epsilon=1e-08), dtype='float64')"
        )


def test_a_half_precision_model_trains_with_adam():
    x, _ = _problem()
    model = fx.f16(fx.Dense(3, 2))
    loss = lambda m, x, y: fx.mse(m(x), y)
    opt, batch = fx.setup(fx.Adam(0.05), model), (x.astype("float16"), (x @ np.ones((3, 2))).astype("float16"))
    fx.train(loss, model, [batch] * 300, opt)
    assert float(loss(model, *batch)) < 0.01


def test_the_moving_average_of_the_weights():
    model = fx.Chain(fx.Dense(2, 2, init=fx.ones), fx.BatchNorm(2), fx.Dense(2, 1, init=fx.ones))
    opt = fx.setup(fx.OptimiserChain(fx.Descent(0.1), fx.EMA(0.5)), model)
    average = np.ones((2, 2))
    for step in range(5):
        fx.trainstep(lambda m, x: m(x).sum(), model, jnp.array([[step, 1.0], [2.0, 3.0]]), opt)
        average = 0.5 * average + 0.5 * np.asarray(model[0].weight)
    averaged = fx.averaged_model(opt, model)
    np.testing.assert_allclose(averaged[0].weight, average, rtol=1e-6)
    assert averaged is not model
    assert not np.allclose(averaged[2].weight, model[2].weight)
    np.testing.assert_array_equal(averaged[1].mean, model[1].mean)
    kept = np.asarray(averaged[0].weight)
    fx.trainstep(lambda m, x: m(x).sum(), model, jnp.ones((2, 2)), opt)
    np.testing.assert_array_equal(averaged[0].weight, kept)


def test_schedule_free_weights_for_tests():
    x, y = _problem()
    loss = lambda m, x, y: fx.mse(m(x), y)
    model = fx.Dense(3, 2)
    params = {"weight": model.weight + 0, "bias": model.bias + 0}
    opt = fx.setup(fx.MixedPrecision(fx.ScheduleFree(fx.Descent(0.5), 0.8)), model)
    theirs = optax.contrib.schedule_free(optax.sgd(0.5), 0.5, b1=0.8)
    state = theirs.init(params)
    for _ in range(5):
        fx.trainstep(loss, model, (x, y), opt)
        grads = jax.grad(lambda p: jnp.mean((x @ p["weight"] + p["bias"] - y) ** 2))(params)
        updates, state = theirs.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    expected = optax.contrib.schedule_free_eval_params(state, params)
    np.testing.assert_allclose(fx.averaged_model(opt, model).weight, expected["weight"], rtol=1e-5)
    fx.freeze(model)
    model.weight = model.weight + 1
    np.testing.assert_array_equal(fx.averaged_model(opt, model).weight, model.weight)


def test_a_rule_without_an_average_says_so():
    model = fx.Dense(1, 1)
    with pytest.raises(ValueError, match=r"keeps no average of the weights; end it with EMA\(0.999\)"):
        fx.averaged_model(fx.setup(fx.Adam(), model), model)
    with pytest.raises(TypeError, match="averaged_model takes an optimiser state, got the rule"):
        fx.averaged_model(fx.EMA(), model)


def test_adjust_reaches_all_rules_inside_rules():
    rule = fx.MixedPrecision(fx.OptimiserChain(fx.OptimiserChain(fx.ClipNorm(1.0)), fx.ScheduleFree(fx.Adam(1e-3))))
    opt = fx.setup(rule, fx.Dense(1, 1))
    fx.adjust(opt, limit=2.0, interpolation=0.8, epsilon=1e-6)
    assert repr(opt.rule) == (
        "MixedPrecision(OptimiserChain(OptimiserChain(ClipNorm(limit=2.0, p=2)), ScheduleFree(Adam("
        "learning_rate=0.001, beta=(0.9, 0.999), epsilon=1e-06), interpolation=0.8)))"
    )
    with pytest.raises(ValueError, match=r"no hyperparameter 'rule'; it has beta, epsilon, interpolation, learn"):
        fx.adjust(opt, rule=fx.Adam())


def test_the_mean_of_collected_gradients_is_of_those_there_were():
    one, none = jnp.ones(1), None
    for given in ([none, none, one, one], [one, none, none, none, one, one, one, one]):
        weights = {"w": jnp.zeros(1), "b": jnp.zeros(1)}
        opt = fx.setup(fx.OptimiserChain(fx.AccumGrad(4), fx.Descent(1.0)), weights)
        for gradient in given:
            fx.update(opt, weights, {"w": one, "b": gradient})
        assert weights["w"].tolist() == [-len(given) / 4]
        assert weights["b"].tolist() == [-1.0]


def test_masters_agree_with_their_weights_after_steps_of_every_size():
    rng = np.random.default_rng(0)
    weights = {"w": jnp.asarray(rng.normal(size=200_000), jnp.bfloat16)}
    opt = fx.setup(fx.MixedPrecision(fx.Descent(1.0)), weights)
    for size in (1e-3, 1.0, 30.0, 1e-2):
        for _ in range(3):
            fx.update(opt, weights, {"w": jnp.asarray(rng.normal(size=200_000) * size, jnp.bfloat16)})
            master = opt.state.masters["['w']"]
            off = np.abs(np.asarray(master.astype(jnp.bfloat16) - weights["w"], "f"))
            assert np.all(off <= 1e-6)


def test_averages_of_another_model_are_refused():
    model = fx.Chain(fx.Dense(2, 2), fx.Dense(2, 2))
    opt = fx.setup(fx.EMA(0.9), model)
    with pytest.raises(ValueError, match=r"not the one that setup saw \(missing: layers\[0\].weight"):
        fx.averaged_model(opt, fx.Dense(2, 2))
    fx.freeze(model)
    assert fx.averaged_model(opt, model)[0].weight is model[0].weight
