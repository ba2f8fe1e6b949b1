"""Files: what is saved and loaded again, training that goes on from there, and files that are none."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import refused, same

import fluxion as fx


def round_trip(path, tree):
    fx.save(path, tree)
    return fx.load(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def test_any_state_survives_a_file(path):
    tree = {
        "numbers": [1, -2.5, True, None, "text", 2j, float("inf"), 2**80],
        "nested": ({"a": (), 3: []}, [[{}]]),
        ("tuple", 1): "key",
        "a.b": np.ones(1),
        "a": {"b": np.zeros(1)},
        "__metadata__": np.ones(2),
        "nan": float("nan"),
    }
    assert same(round_trip(path, tree), tree)
    for single in (np.arange(3), 5, None, [], "x"):
        assert same(round_trip(path, single), single)


DTYPES = ["bool", "int4", "int64", "uint8", "bfloat16", "float16", "float64", "complex64", "complex128", "float8_e5m2"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_of_number_survives_a_file(path, dtype):
    for array in (np.arange(6).reshape(2, 3), np.ones(()), np.ones((0, 2)), np.arange(6).reshape(2, 3).T):
        array = array.astype(jnp.dtype(dtype))
        assert same(round_trip(path, {"x": array})["x"], array)
    assert same(round_trip(path, np.arange(3, dtype=">f4")), np.arange(3, dtype="f4"))


def test_ties_survive_a_file(path):
    array = jnp.ones(3)
    tree = round_trip(path, {"a": array, "b": [array]})
    assert tree["a"] is tree["b"][0]


def test_files_have_readable_names(path):
    from safetensors.numpy import load_file

    fx.save(path, {"model": fx.Chain(fx.Dense(2, 1)), "epoch": 1})
    assert set(load_file(path)) == {"model.layers.0.weight", "model.layers.0.bias"}


def test_bad_files(path):
    from safetensors.numpy import save_file

    refused("No such file", path, call=fx.load, error=FileNotFoundError)
    fx.save(path, fx.Dense(20, 30))
    whole = path.read_bytes()
    for length in (0, 4, 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused("file.safetensors is not a complete safetensors file", path, call=fx.load)
    path.write_bytes(b"something else that is not of this format at all")
    refused("is not a complete safetensors file", path, call=fx.load)
    save_file({"x": np.ones(1)}, path)
    refused("was not written by fluxion.save; safetensors.numpy.load_file reads its arrays", path, call=fx.load)
    save_file({"x": np.ones(1)}, path, {"fluxion": '{"version": 99}'})
    refused("was written by a newer version of Fluxion", path, call=fx.load)


def test_a_failing_save_leaves_the_old_file(path, monkeypatch):
    fx.save(path, {"epoch": 1})
    refused("save cannot write", path, {"key": jax.random.key(0)}, call=fx.save, error=TypeError)
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    refused("disk full", path, {"epoch": 2}, call=fx.save, error=OSError)
    assert fx.load(path) == {"epoch": 1} and [entry.name for entry in path.parent.iterdir()] == [path.name]
    with pytest.raises(TypeError, match=r"save cannot write .*Tracer"):
        jax.jit(lambda x: fx.save(path, x))(jnp.ones(2))


def make():
    fx.seed(3)
    model = fx.Chain(fx.Dense(3, 8, fx.tanh), fx.BatchNorm(8), fx.Dropout(0.3), fx.Dense(8, 1))
    rule = fx.OptimiserChain(fx.ClipGrad(1.0), fx.AdamW(0.01, decay=0.1))
    return model, fx.setup(rule, model)


def run(model, opt, batches):
    fx.train(lambda m, x, y: fx.mse(m(x), y), model, batches, opt)


def test_resumed_training_equals_uninterrupted_training(path):
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(6, 3)).astype("f"), rng.normal(size=(6, 1)).astype("f")) for _ in range(6)]
    model, opt = make()
    run(model, opt, batches[:3])
    fx.adjust(opt, learning_rate=0.02)
    fx.save(path, {"model": model, "opt": opt, "random": fx.random.generator(), "epoch": 3})
    run(model, opt, batches[3:])

    again, opt_again = make()
    tree = fx.load(path, into={"model": again, "opt": opt_again, "random": fx.random.generator()})
    assert tree["epoch"] == 3 and opt_again.rule.rules[1].learning_rate == 0.02
    run(again, opt_again, batches[3:])
    assert same(fx.state(again), fx.state(model)) and same(fx.state(opt_again), fx.state(opt))


def test_steps_of_a_schedule_are_resumed(path):
    def schedule(step):
        return 0.1 if step < 2 else 0.01

    model = fx.Dense(2, 1)
    opt = fx.setup(fx.Adam(schedule), model)
    run(model, opt, [(jnp.ones((2, 2)), jnp.ones((2, 1)))] * 3)
    fx.save(path, opt)
    other = fx.setup(fx.Adam(schedule), model)
    fx.load(path, other)
    assert other.steps == opt.steps == 3 and other.rule.learning_rate is schedule


def test_optimiser_states_that_do_not_fit(path):
    model = fx.Dense(2, 1)
    opt = fx.setup(fx.Adam(), model)
    fx.save(path, {"opt": opt})
    refused(
        "['opt']: the optimiser state of Descent in the model, Adam in the source",
        path,
        {"opt": fx.setup(fx.Descent(), model)},
        call=fx.load,
    )
    refused("['opt']: the optimiser state of Adam in the model, nothing in the source", {"opt": opt}, {"opt": None})
    bigger = fx.setup(fx.Adam(), fx.Dense(2, 5))
    refused("mu", path, {"opt": bigger}, call=fx.load)
    refused("['opt']: the optimiser state of Adam", {"opt": opt}, {})


def test_load_into_a_model(path):
    model, other = fx.Dense(2, 1), fx.Dense(2, 1)
    fx.save(path, model)
    tree = fx.load(path, other)
    assert (other.weight == model.weight).all() and isinstance(tree["weight"], np.ndarray)
    refused("weight: float32[3, 1] in the model, float32[2, 1] in the source", path, fx.Dense(3, 1), call=fx.load)
    refused("['net'].weight: float32[2, 1] in the model, nothing in the source", path, {"net": model}, call=fx.load)


def test_layers_without_sizes_are_named(path):
    advice = "needs the sizes of all layers, Dense(None, 4) has none yet; call fx.autosize"
    unsized = fx.Chain(fx.Dense(None, 4), fx.relu)
    refused(f"save {advice}", path, {"model": unsized}, call=fx.save)
    refused(f"loadmodel {advice}", fx.Dense(None, 4), fx.Dense(3, 4))
    refused(f"loadmodel {advice}", fx.Dense(3, 4), fx.Dense(None, 4))


@pytest.mark.parametrize(
    "array", [np.array(["ab", "c"]), np.array([b"x"]), np.array(["2020"], "M8[D]"), np.zeros((0, 2), "U3")]
)
def test_arrays_of_strings_and_dates_survive_a_file(path, array):
    tree = round_trip(path, {"array": array, "weight": np.ones(2)})
    assert tree["array"].dtype == array.dtype and np.array_equal(tree["array"], array)
    fx.loadmodel({"array": array, "weight": np.zeros(2)}, tree)


def test_arrays_that_cannot_be_written(path):
    for array in (np.array([None]), np.zeros(2, [("a", "i4")])):
        refused("save cannot write an array of", path, {"a": [array]}, call=fx.save, error=TypeError)
    assert not list(path.parent.iterdir())


def test_files_keep_their_links_and_rights(path):
    fx.save(path, {"epoch": 1})
    usual = path.with_name("usual")
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode
    path.chmod(0o640)
    link = path.with_name("latest")
    link.symlink_to(path)
    fx.save(link, {"epoch": 2})
    assert link.is_symlink() and fx.load(path) == {"epoch": 2} and path.stat().st_mode & 0o777 == 0o640


def test_errors_of_the_system_and_of_headers(path):
    from safetensors.numpy import save_file

    refused("No such file", path / "folder" / "file", fx.Dense(2, 1), call=fx.save, error=FileNotFoundError)
    refused("Is a directory", path.parent, call=fx.load, error=IsADirectoryError)
    for header in ("not JSON", "{}", '{"version": 1, "tree": {"array": "y"}}', '{"version": 1, "tree": {"other": 1}}'):
        save_file({"x": np.ones(1)}, path, {"fluxion": header})
        refused("was not written by fluxion.save, or changed since", path, call=fx.load)


def test_odd_keys_survive_a_file(path):
    tree = {"\ud800": np.ones(1), "": np.ones(1), "\n": np.ones(1)}
    assert same(round_trip(path, tree), tree)
