"""The training loop: three levels, captured writes, failures that leave everything as it was."""

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx


def _data(batches=4, size=8):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(size, 3)).astype("f"), rng.integers(0, 2, size)) for _ in range(batches)]


def _model():
    fx.seed(0)
    return fx.Chain(fx.Dense(3, 4, fx.relu), fx.Dense(4, 2))


def _loss(m, x, y):
    return fx.logitcrossentropy(m(x), y)


def test_three_levels_give_the_same_weights():
    data = _data()
    first, second, third = _model(), _model(), _model()
    fx.train(_loss, first, data, fx.setup(fx.Descent(0.1), first), epochs=2)
    opt = fx.setup(fx.Descent(0.1), second)
    for _ in range(2):
        for x, y in data:
            _, (g,) = fx.withgradient(lambda m: _loss(m, x, y), second)  # noqa: B023
            fx.update(opt, second, g)
            (g,) = fx.gradient(lambda m: _loss(m, x, y), third)  # noqa: B023
            third = fx.fmap(lambda p, d: p - 0.1 * d, third, g)
    for a, b, c in zip(fx.leaves(first), fx.leaves(second), fx.leaves(third), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)


def test_train_returns_none_and_compiles_once_more_for_an_odd_last_batch():
    data = [*_data(), *_data(1, 5)]
    model = _model()
    loss = lambda m, x, y: _loss(m, x, y)
    assert fx.train(loss, model, data, fx.setup(fx.Adam(), model), epochs=4) is None
    assert fx.explain(loss).count == 2


def test_batches_that_are_no_tuples_are_passed_whole():
    model = fx.Dense(2, 1, bias=False, init=fx.zeros)
    opt = fx.setup(fx.Descent(0.5), model)
    fx.train(lambda m, batch: m(batch["x"]).sum(), model, [{"x": jnp.ones((1, 2))}], opt)
    fx.train(lambda m, batch: m(batch[0]).sum(), model, [[jnp.ones((1, 2))]], opt)
    fx.train(lambda m, x: m(x).sum(), model, [jnp.ones((1, 2))], opt)
    assert model.weight.tolist() == [[-1.5], [-1.5]]


def test_statistics_and_dropout_advance_once_per_step():
    class Counting:
        def __init__(self):
            self.dense, self.steps = fx.Dense(3, 2), jnp.zeros((), jnp.int32)

        def __call__(self, x):
            self.steps = self.steps + 1
            return self.dense(x)

    model = Counting()
    fx.train(_loss, model, _data(3), fx.setup(fx.Descent(0.0), model), epochs=2)
    assert int(model.steps) == 6


def test_callback_sees_each_step_and_can_stop():
    seen = []

    def callback(progress):
        seen.append((progress.epoch, progress.batch, float(progress.loss)))
        return len(seen) == 5

    model = _model()
    fx.train(_loss, model, _data(), fx.setup(fx.Adam(), model), epochs=3, callback=callback)
    assert [entry[:2] for entry in seen] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]


def test_non_finite_loss_names_epoch_and_batch_and_leaves_everything_as_before():
    good, reference = _model(), _model()
    data = _data(12)
    bad = list(data)
    bad[2] = (np.full((8, 3), np.nan, "f"), data[2][1])
    opt, reference_opt = fx.setup(fx.Adam(0.1), good), fx.setup(fx.Adam(0.1), reference)
    with pytest.raises(fx.NonFiniteLossError, match="loss became nan at epoch 0, batch 2"):
        fx.train(_loss, good, bad, opt)
    fx.train(_loss, reference, data[:2], reference_opt)
    for a, b in zip([*fx.leaves(good), *opt.leaves], [*fx.leaves(reference), *reference_opt.leaves], strict=True):
        np.testing.assert_array_equal(a, b)
    fx.train(_loss, good, data, opt)
    assert np.isfinite(float(_loss(good, *data[0])))


def test_trainstep_skips_the_update_of_a_non_finite_loss():
    model = fx.Dense(1, 1, init=fx.ones)
    opt = fx.setup(fx.Descent(0.1), model)
    loss = lambda m, x: m(x).sum()
    assert np.isnan(fx.trainstep(loss, model, jnp.full((1, 1), jnp.nan), opt))
    assert model.weight.tolist() == [[1.0]]
    fx.trainstep(loss, model, jnp.ones((1, 1)), opt)
    assert model.weight.tolist() != [[1.0]]


def test_trainstep_withgradient_returns_the_gradient_before_the_update():
    model = fx.Dense(2, 1, init=fx.ones)
    opt = fx.setup(fx.Descent(0.5), model)
    loss, g = fx.trainstep_withgradient(lambda m, x: (m(x) ** 2).sum(), model, jnp.ones((1, 2)), opt)
    assert float(loss) == 4.0
    assert g.weight.tolist() == [[4.0], [4.0]]
    assert model.weight.tolist() == [[-1.0], [-1.0]]


def test_auxiliary_outputs_of_a_step():
    model = fx.Dense(2, 1)
    opt = fx.setup(fx.Descent(0.1), model)
    loss, text = fx.trainstep(lambda m, x: (m(x).sum(), "note"), model, jnp.ones((1, 2)), opt)
    assert loss.shape == ()
    assert text == "note"


def test_an_exception_in_the_data_keeps_what_was_learnt():
    model = _model()
    before = np.asarray(model[0].weight)

    def broken():
        yield from _data(2)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fx.train(_loss, model, broken(), fx.setup(fx.Adam(0.1), model))
    assert not np.array_equal(before, model[0].weight)
    assert np.isfinite(np.asarray(model[0].weight)).all()


def test_user_held_arrays_survive_training():
    model = _model()
    held, view = model[0].weight, np.asarray(model[1].weight)
    total, copy = float(held.sum()), view.copy()
    opt = fx.setup(fx.Adam(0.1), model)
    moments = opt.state
    fx.train(_loss, model, _data(), opt, epochs=2)
    assert float(held.sum()) == total
    np.testing.assert_array_equal(view, copy)
    assert float(moments[0][0].mu["layers[0].weight"].sum()) == 0.0


def test_the_same_seed_gives_the_same_bits_compiled_or_eager():
    def run():
        fx.seed(3)
        model = fx.Chain(fx.Dense(3, 8, fx.relu), fx.Dropout(0.5), fx.Dense(8, 2))
        fx.train(_loss, model, _data(2), fx.setup(fx.Descent(0.1), model))
        return fx.leaves(model)

    compiled = run()
    with fx.eager():
        eager = run()
    for a, b in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_progress_bar_shows_the_loss(capsys):
    model = _model()
    fx.train(_loss, model, _data(), fx.setup(fx.Adam(), model), epochs=2, progress=True)
    assert "8/8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": 3}, "takes a loss function first, got int"),
        ({"loss": fx.Dense(3, 2)}, "takes a loss function first, got Dense; the loss comes first: train"),
        ({"opt": fx.Adam()}, r"got the rule Adam.*; make one with fx.setup\(rule, model\)"),
        ({"opt": "adam"}, "takes an optimiser state"),
        ({"data": 3}, "iterable of batches"),
        ({"data": []}, "data holds no batches"),
        ({"data": iter([]), "epochs": 2}, "used up after one epoch"),
        ({"epochs": -1}, "whole number"),
        ({"epochs": 1.5}, "whole number"),
        ({"callback": 3}, "callback is a function of a Progress, got 3"),
        ({"data": _data(1)[0]}, r"the loss takes \(m, x, y\), which a batch that is array\(8, 3\) does not fill"),
        (
            {"data": [list(_data(1)[0])]},
            r"a list of 2 does not fill; it is called as loss\(model, \*batch\) for a tuple",
        ),
    ],
)
def test_wrong_calls_are_refused(change, message):
    model = _model()
    given = {"loss": _loss, "opt": fx.setup(fx.Adam(), model), "data": _data()} | change
    loss, opt, data = (given.pop(name) for name in ("loss", "opt", "data"))
    with pytest.raises((TypeError, ValueError), match=message):
        fx.train(loss, model, data, opt, **given)


@pytest.mark.parametrize("answer", [True, np.True_, jnp.array(True)], ids=lambda answer: type(answer).__name__)
def test_a_callback_may_stop_with_any_truth_value(answer):
    model, seen = _model(), []
    callback = lambda progress: seen.append(progress) or (answer if progress.batch == 1 else 5)
    fx.train(_loss, model, _data(), fx.setup(fx.Adam(), model), epochs=np.int64(2), callback=callback)
    assert len(seen) == 2


def test_size_errors_name_the_layer_in_its_model():
    class Net:
        def __init__(self):
            self.encoder = fx.Chain(fx.Dense(3, 4), fx.Dense(5, 2))

        def __call__(self, x):
            return self.encoder(x)

    model = Net()
    opt = fx.setup(fx.Adam(), model)
    refusal = r"Dense\(5, 2\) expects 5 input features \(last axis\), got an array of shape \(8, 4\)"
    message = refusal + r"\n  in model.encoder.layers\[1\]"
    with pytest.raises(fx.SizeError, match=message):
        fx.train(_loss, model, _data(), opt)
    with pytest.raises(fx.SizeError, match=r"in m.encoder.layers\[1\]"):
        fx.gradient(lambda m: m(_data()[0][0]).sum(), model)
