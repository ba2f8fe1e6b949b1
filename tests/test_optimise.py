"""States and updates, and the mistakes that users make with them; each rule is in test_rules.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx


def _problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 3)).astype("f"), rng.normal(size=(16, 2)).astype("f")


def test_any_optax_transformation_is_accepted_and_equal():
    x, y = _problem()
    model = fx.Dense(3, 2)
    params = {"weight": model.weight + 0, "bias": model.bias + 0}
    rule = optax.chain(optax.clip_by_global_norm(0.5), optax.lamb(1e-2))
    opt, state = fx.setup(rule, model), rule.init(params)
    for _ in range(5):
        fx.trainstep(lambda m, x, y: fx.mse(m(x), y), model, (x, y), opt)
        grads = jax.grad(lambda p: jnp.mean((x @ p["weight"] + p["bias"] - y) ** 2))(params)
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(model.weight, params["weight"], rtol=1e-5)


def test_clipping_rules_clip():
    model = fx.Dense(2, 1, init=fx.zeros)
    big = fx.fmap(lambda a: 100.0 * jnp.ones_like(a), model)
    opt = fx.setup(fx.OptimiserChain(fx.ClipGrad(0.5), fx.Descent(1.0)), model)
    fx.update(opt, model, big)
    np.testing.assert_allclose(model.weight, -0.5)
    model = fx.Dense(2, 1, init=fx.zeros)
    opt = fx.setup(fx.OptimiserChain(fx.ClipNorm(1.0), fx.Descent(1.0)), model)
    fx.update(opt, model, big)
    np.testing.assert_allclose(jnp.linalg.norm(model.weight), 1.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.abs(model.bias), 1.0, rtol=1e-6)


def test_a_schedule_takes_the_place_of_a_number():
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt = fx.setup(fx.Descent(lambda step: 1.0 / (1 + step)), model)
    ones = fx.fmap(jnp.ones_like, model)
    for _ in range(3):
        fx.update(opt, model, ones)
    np.testing.assert_allclose(model.weight, [[-(1 + 1 / 2 + 1 / 3)]], rtol=1e-6)


def test_adjust_takes_effect_without_recompiling():
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt = fx.setup(fx.Descent(1.0), model)
    loss = lambda m, x: m(x).sum()
    for rate in (1.0, 0.5, 0.25):
        fx.adjust(opt, learning_rate=rate)
        fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    np.testing.assert_allclose(model.weight, [[-1.75]])
    assert fx.explain(loss).count == 1


def test_adjust_reaches_into_chains_and_refuses_what_no_rule_has():
    opt = fx.setup(fx.OptimiserChain(fx.WeightDecay(0.1), fx.Adam(1e-3)), fx.Dense(1, 1))
    fx.adjust(opt, learning_rate=0.5, decay=0.2)
    assert opt.rule.rules[1].learning_rate == 0.5
    assert opt.rule.rules[0].decay == 0.2
    with pytest.raises(
        ValueError, match="no hyperparameter 'lr', write learning_rate; it has beta, decay, epsilon, learning_rate"
    ):
        fx.adjust(opt, lr=0.1)
    with pytest.raises(ValueError, match="learning_rate cannot be negative"):
        fx.adjust(opt, learning_rate=-1.0, decay=0.3)
    assert opt.rule.rules[0].decay == 0.2
    with pytest.raises(TypeError, match="needs something to change"):
        fx.adjust(opt)
    with pytest.raises(TypeError, match="got the rule"):
        fx.adjust(fx.Adam(), learning_rate=0.1)


def test_setup_names_the_mistake():
    model = fx.Dense(2, 1)
    with pytest.raises(TypeError, match="got the class Adam itself"):
        fx.setup(fx.Adam, model)
    with pytest.raises(TypeError, match="the rule comes first"):
        fx.setup(model, fx.Adam())
    with pytest.raises(ValueError, match="nothing to train"):
        fx.setup(fx.Adam(), fx.relu)
    fx.freeze(model)
    with pytest.raises(ValueError, match="nothing to train"):
        fx.setup(fx.Adam(), model)


def _gradient(model, size=2):
    return fx.gradient(lambda m: m(jnp.ones((1, size))).sum(), model)


def test_update_names_the_mistake_and_changes_nothing():
    model = fx.Chain(fx.Dense(2, 3), fx.Dense(3, 1))
    before = [np.asarray(w) for w in fx.leaves(model)]
    opt = fx.setup(fx.Adam(), model)
    with pytest.raises(TypeError, match=r"unpack it: \(g,\) = fx.gradient"):
        fx.update(opt, model, _gradient(model))
    other = fx.Chain(fx.Dense(2, 4), fx.Dense(4, 1))
    with pytest.raises(ValueError, match="not one of this model"):
        fx.update(opt, model, _gradient(other)[0])
    with pytest.raises(ValueError, match="not one of this model"):
        fx.update(opt, model, _gradient(fx.Dense(2, 1))[0])
    with pytest.raises(TypeError, match="got the rule"):
        fx.update(fx.Adam(), model, _gradient(model)[0])
    model.layers.append(fx.Dense(1, 1))
    with pytest.raises(ValueError, match=r"not the one that setup saw \(new: layers\[2\].weight, layers\[2\].bias\)"):
        fx.update(opt, model, _gradient(model)[0])
    model.layers.pop()
    model.layers[1] = fx.Dense(3, 5)
    with pytest.raises(ValueError, match=r"layers\[1\].weight float32\[3, 1\] is now float32\[3, 5\]"):
        fx.update(opt, model, _gradient(model)[0])
    model.layers[1] = other[1]
    for a, b in zip(before[:2], fx.leaves(model)[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bare_array_or_tuple_cannot_be_updated_in_place():
    for model in ((jnp.ones(2),), jnp.ones(2)):
        with pytest.raises(TypeError, match="cannot be changed in place"):
            fx.setup(fx.Descent(), model)


def test_lists_dicts_functions_and_tuples_inside_objects_train():
    w = jnp.array([1.0, 2.0])
    models = [[jnp.ones(2)], {"w": jnp.ones(2)}, lambda x: (w * x).sum()]

    class Holder:
        def __init__(self):
            self.pair = (jnp.ones(2), 3)

    models.append(Holder())
    for model in models:
        opt = fx.setup(fx.Descent(0.1), model)
        ones = [jnp.ones(2)] if isinstance(model, list) else {"w": jnp.ones(2)} if isinstance(model, dict) else None
        if ones is None:
            (ones,) = fx.gradient(lambda m: m(1.0) if callable(m) else m.pair[0].sum(), model)
        before = np.asarray(fx.leaves(model)[0])
        fx.update(opt, model, ones)
        np.testing.assert_allclose(fx.leaves(model)[0], before - 0.1, rtol=1e-6)


def test_none_gradients_leave_array_and_state_alone():
    model = fx.Chain(fx.Dense(1, 1, init=fx.ones), fx.Dense(1, 1, init=fx.ones))
    opt = fx.setup(fx.OptimiserChain(fx.WeightDecay(0.5), fx.Adam(0.1)), model)
    (g,) = fx.gradient(lambda m: m[0](jnp.ones(1)).sum(), model)
    g.layers[1] = None
    fx.update(opt, model, g)
    assert model[1].weight.tolist() == [[1.0]]
    assert model[0].weight.tolist() != [[1.0]]
    moments = opt.state[0][1][0].mu
    assert moments["layers[1].weight"].tolist() == [[0.0]]
    assert moments["layers[0].weight"].tolist() != [[0.0]]


def test_freezing_after_setup_keeps_array_and_state_and_thaw_resumes():
    model = fx.Chain(fx.Dense(1, 1, init=fx.ones), fx.Dense(1, 1, init=fx.ones))
    opt = fx.setup(fx.Adam(0.1), model)
    loss = lambda m, x: m(x).sum()
    fx.freeze(model[0])
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    assert model[0].weight.tolist() == [[1.0]]
    assert model[1].weight.tolist() != [[1.0]]
    fx.thaw(model[0])
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    assert model[0].weight.tolist() != [[1.0]]


@pytest.mark.parametrize(
    "rule",
    [
        fx.NAdam(0.1),
        fx.Muon(0.1),
        fx.MixedPrecision(fx.Adam(0.1)),
        fx.ScheduleFree(fx.Descent(0.1)),
        fx.OptimiserChain(fx.AccumGrad(2), fx.WeightDecay(0.1), fx.Momentum(0.1), fx.EMA(0.9)),
        fx.Scheduler(fx.Adam, fx.schedules.Exp(0.1, 0.9)),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_nothing_of_a_frozen_layer_moves(rule):
    model = fx.f16(fx.Chain(fx.Dense(2, 2), fx.Dense(2, 1)))
    opt = fx.setup(rule, model)
    loss = lambda m, x: m(x).sum()

    def memory(layer):
        entries = jax.tree_util.tree_leaves_with_path(opt.state)
        return [np.asarray(leaf) for path, leaf in entries if f"layers[{layer}]" in jax.tree_util.keystr(path)]

    fx.trainstep(loss, model, jnp.ones((1, 2), jnp.float16), opt)
    fx.freeze(model[0])
    before = [np.asarray(model[0].weight), *memory(0)], memory(1)
    for _ in range(2):
        fx.trainstep(loss, model, jnp.ones((1, 2), jnp.float16), opt)
    after = [np.asarray(model[0].weight), *memory(0)], memory(1)
    assert all(np.array_equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_a_tied_weight_has_one_state_and_stays_tied():
    shared = fx.Dense(2, 2)
    model = fx.Chain(shared, shared)
    opt = fx.setup(fx.Momentum(0.1), model)
    assert len(opt.signature.shapes) == 2
    for _ in range(3):
        fx.update(opt, model, _gradient(model)[0])
    assert model[0] is model[1]
    head, body = fx.Dense(2, 2), fx.Dense(2, 2)
    head.weight = body.weight
    model = fx.Chain(body, head)
    opt = fx.setup(fx.Momentum(0.1), model)
    fx.train(lambda m, x: m(x).sum(), model, [jnp.ones((1, 2))] * 3, opt)
    assert head.weight is body.weight


def test_half_precision_parameters_keep_their_dtype():
    model = fx.bf16(fx.Dense(2, 2))
    opt = fx.setup(fx.Adam(1e-2), model)
    fx.trainstep(lambda m, x: m(x).sum(), model, jnp.ones((1, 2), jnp.bfloat16), opt)
    assert model.weight.dtype == jnp.bfloat16


def test_a_schedule_in_plain_python_is_evaluated_at_every_step():
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt = fx.setup(fx.OptimiserChain(fx.ClipGrad(5.0), fx.Descent(lambda step: 1.0 if step < 2 else 0.25)), model)
    loss = lambda m, x: m(x).sum()
    fx.train(loss, model, [jnp.ones((1, 1))] * 3, opt)
    np.testing.assert_allclose(model.weight, [[-2.25]])
    assert fx.explain(loss).count == 1


def test_a_dropped_optimiser_state_is_freed():
    import gc
    import weakref

    model = fx.Dense(2, 1)
    opt = fx.setup(fx.Adam(), model)
    fx.trainstep(lambda m, x: m(x).sum(), model, jnp.ones((1, 2)), opt)
    fx.update(opt, model, _gradient(model)[0])
    watch = weakref.ref(opt)
    del opt
    gc.collect()
    assert watch() is None


def test_optax_transformations_inside_a_chain_with_a_python_schedule():
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    rule = fx.OptimiserChain(optax.clip(0.5), fx.Descent(lambda step: 1.0 if step < 1 else 0.25))
    opt = fx.setup(rule, model)
    loss = lambda m, x: m(x).sum()
    for _ in range(2):
        fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    np.testing.assert_allclose(model.weight, [[-0.625]])
    fx.adjust(opt, learning_rate=2.0)
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    fx.update(opt, model, fx.fmap(jnp.ones_like, model))
    np.testing.assert_allclose(model.weight, [[-2.625]])
    assert fx.explain(loss).count == 1


def test_adjust_leaves_other_states_of_the_rule_alone():
    rule = fx.OptimiserChain(fx.ClipGrad(1.0), fx.Adam(0.1))
    first, second = fx.setup(rule, fx.Dense(1, 1)), fx.setup(rule, fx.Dense(1, 1))
    fx.adjust(first, learning_rate=0.5)
    assert first.rule.rules[1].learning_rate == 0.5
    assert second.rule.rules[1].learning_rate == rule.rules[1].learning_rate == 0.1


@pytest.mark.parametrize(
    ("rule", "change"),
    [(fx.RMSProp(0.1), {"centred": True}), (fx.AdamW(0.1), {"couple": False})],
    ids=["RMSProp", "AdamW"],
)
def test_adjust_refuses_what_needs_another_state(rule, change):
    opt = fx.setup(rule, fx.Dense(1, 1))
    with pytest.raises(ValueError, match=r"remembers other arrays than .*; call fx.setup"):
        fx.adjust(opt, **change)
    assert opt.rule is rule


def test_adjust_cannot_reach_what_only_counts_at_the_start():
    with pytest.raises(ValueError, match="no hyperparameter 'learning_rate'; it has factors, limits"):
        fx.adjust(fx.setup(fx.Rprop(), fx.Dense(1, 1)), learning_rate=0.1)


class Weighted(fx.Rule):
    """A rule of a user's, whose fields are not its arguments."""

    def __init__(self, weights, keep=lambda path: path.endswith("weight")):
        self.each, self.keep, self.factor = weights, keep, 1.0

    def direction(self):
        return optax.stateless(lambda g, p: {path: x * self.each * self.factor for path, x in g.items()})


def test_arrays_of_a_rule_are_inputs_of_the_program():
    loss = lambda m, x: m(x).sum()
    for weights in (np.array([1.0], "f"), jnp.array([2.0]), np.array([3.0], "f")):
        model = fx.Dense(1, 1, bias=False, init=fx.zeros)
        opt = fx.setup(Weighted(weights), model)
        fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
        fx.adjust(opt, factor=2.0)
        fx.update(opt, model, fx.fmap(jnp.ones_like, model))
        np.testing.assert_allclose(model.weight, [-3 * weights])


@pytest.mark.parametrize("cast", [np.float32, np.float64, np.array, jnp.asarray], ids=lambda cast: cast.__name__)
def test_numbers_that_are_assigned_take_effect(cast):
    model = fx.Dense(1, 1, bias=False, init=fx.zeros)
    opt = fx.setup(fx.Descent(), model)
    for value in (0.5, 2.0):
        opt.rule.learning_rate = cast(value)
        fx.trainstep(lambda m, x: m(x).sum(), model, jnp.ones((1, 1)), opt)
    np.testing.assert_allclose(model.weight, [[-2.5]])


def test_optax_alone_computes_half_precision_in_float32():
    weights = {"w": jnp.ones(2, jnp.float16)}
    opt = fx.setup(optax.adam(0.1), weights)
    fx.update(opt, weights, {"w": jnp.array([1.0, 0.0], jnp.float16)})
    np.testing.assert_allclose(weights["w"], [0.9, 1.0], rtol=1e-3)
    assert weights["w"].dtype == jnp.float16


def test_optax_may_remember_random_keys():
    weights = {"w": jnp.zeros(100)}
    opt = fx.setup(fx.OptimiserChain(optax.add_noise(1.0, 0.0, key=jax.random.key(0)), fx.Descent(1.0)), weights)
    drawn = []
    for _ in range(2):
        before = np.asarray(weights["w"])
        fx.update(opt, weights, {"w": jnp.zeros(100)})
        drawn.append(weights["w"] - before)
    assert 0.7 < float(jnp.std(drawn[0])) < 1.4
    assert not np.allclose(drawn[0], drawn[1])


def test_the_gradient_in_the_place_of_the_model_is_refused():
    model = fx.Dense(3, 2)
    (g,) = _gradient(model, 3)
    with pytest.raises(TypeError, match="update takes the model before the gradient"):
        fx.update(fx.setup(fx.Adam(), model), g, model)
