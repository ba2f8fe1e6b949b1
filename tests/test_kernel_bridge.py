"""The bridge to XLA, the cache of machine code, and what happens where kernels cannot be used."""

import os
import pathlib
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest

import fluxion as fx
from fluxion.kernels import abi, availability, gates, generated, objects
from fluxion.kernels.generated import kernel
from fluxion.kernels.machine import host

ROOT = pathlib.Path(__file__).parent.parent


@kernel
def counting(k, x, runs, workers, sums):
    """Each task adds 1 to its own count and notes its worker; then one phase that reads what all have written."""
    mine = k.private(4)
    with k.parallel(runs.size) as f:
        f[mine][0] = f[x][f.task] + 1.0
        f[runs][f.task] = f[mine][0]
        f[workers][f.task] = f.convert(f.worker, "int32")
    with k.parallel(sums.size) as f:
        total = f.tile(1, value=f.constant(0, "float32"))
        for i in f.range(runs.size, carry=total):
            total[0] = total[0] + f[runs][i]
        f[sums][f.task] = total[0]


def count(x):
    n = x.size
    outputs = [jax.ShapeDtypeStruct((n,), "float32"), jax.ShapeDtypeStruct((n,), "int32")]
    return counting(x, outputs=[*outputs, jax.ShapeDtypeStruct((64,), "float32")])


@pytest.mark.parametrize("tasks", [1, 2, 3, 1000])
def test_every_task_runs_once_and_phases_wait(tasks):
    for _ in range(20):
        runs, workers, sums = count(jnp.zeros(tasks))
        assert (runs == 1).all() and (sums == tasks).all()
        assert ((workers >= 0) & (workers < host().workers)).all()


def test_programs_at_the_same_time_do_not_disturb_each_other():
    run, wrong = jax.jit(lambda x: count(x)[2]), []

    def repeat(value):
        x = jnp.full(500, float(value))
        for _ in range(100):
            if not (run(x) == 500 * (value + 1)).all():
                wrong.append(value)

    threads = [threading.Thread(target=repeat, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_calls_of_one_program_may_overlap():
    run = jax.jit(lambda x, y: count(x)[2] + count(y)[2])
    for _ in range(50):
        assert (run(jnp.zeros(300), jnp.ones(300)) == 900).all()


def script(text, **environment):
    """What a new process prints, which ends without error."""
    place = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        capture_output=True,
        text=True,
        env=os.environ | place | environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CONVOLVE = """
import fluxion as fx, jax.numpy as jnp, numpy as np
x = np.random.default_rng(0).normal(size=(2, 9, 9, 16)).astype("float32")
y = fx.conv(x, np.ones((3, 3, 16, 16), "float32") / 144)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_a_pool_of_one_thread():
    text = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    text += "from test_kernel_bridge import count, jnp\nprint(float(count(jnp.zeros(77))[2].sum()))"
    assert script(text) == str(77.0 * 64)


def test_more_threads_than_cores():
    text = "from test_kernel_bridge import count, jnp, jax\nfrom fluxion.kernels import machine, generated\n"
    text += "import dataclasses; many = dataclasses.replace(machine.host(), workers=64)\n"
    text += "generated.required_host = lambda: many\nprint(float(count(jnp.zeros(77))[2].sum()))"
    assert script(text, XLA_FLAGS="--xla_force_host_platform_device_count=4") == str(77.0 * 64)


EIGHT_DEVICES = """
import fluxion as fx, jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
layers = fx.Conv((3, 3), 16, 16, fx.relu, pad=1), fx.MaxPool((2, 2)), fx.DepthwiseConv((3, 3), 16, 16), fx.flatten
model = fx.Chain(*layers)
x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8, 8, 16)), "float32")
loss = lambda x: jnp.sum(jnp.sin(model(x)))
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = jax.shard_map(lambda x: jax.lax.psum(loss(x), "data"), mesh=mesh, in_specs=P("data"), out_specs=P())
run = jax.jit(jax.value_and_grad(split))
for one, other in zip(run(x), jax.value_and_grad(loss)(x)):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
print(run.lower(x).as_text().count("fluxion_") > 2)
"""


def test_each_of_eight_devices_runs_kernels_under_shard_map():
    assert script(EIGHT_DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=8") == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_no_kernel_leaves_its_buffers():
    program = (ROOT / "tests" / "programs" / "kernels_between_forbidden_pages.py").read_text()
    assert script(program) == "all kernels stayed within their buffers"


# -------------------------------------------------------------------- the cache of machine code


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FLUXION_CACHE", raising=False)
    return tmp_path / "fluxion" / "kernels"


@kernel
def shifted(k, x, y):
    with k.parallel(1) as f:
        for i, lanes in f.vectors(x.size):
            f[y].store(f[x].load(i, lanes) + 1.0, i, lanes)


def code():
    """What the kernel's code is, from the cache or compiled."""
    array, machine = jax.ShapeDtypeStruct((5,), "float32"), host()
    name, text = shifted._name([array], [array], machine, {})[0], shifted.text([array], [array], machine)
    return name, *(objects.recall(name) or ({}, generated._compiled(name, text, {}, machine)))


def test_machine_code_is_kept_and_used_again(cache, monkeypatch):
    compiled = code()
    (file,) = cache.iterdir()
    assert file.name == f"{compiled[0]}.o" and compiled[0].startswith("fluxion_shifted_")
    monkeypatch.setattr(objects, "compile_object", lambda *_: pytest.fail("compiled again"))
    assert code() == compiled


DAMAGES = [
    lambda b: b[:-1],
    lambda b: b"",
    lambda b: b[:-9] + b"\0" * 9,
    lambda b: b"{}\n",
    lambda b: b.replace(b'"facts": {}', b'"facts": {"scratch_bytes": 64}', 1),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_anew(cache, damage):
    compiled = code()
    (file,) = cache.iterdir()
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    assert file.read_bytes() != sound
    assert code() == compiled
    assert file.read_bytes() == sound


def test_an_interrupted_run_leaves_nothing_half_written(cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            code()
    assert list(cache.iterdir()) == []
    assert code() and len(list(cache.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_error(cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert code()[2]


def test_without_a_cache_nothing_is_written(cache, monkeypatch):
    monkeypatch.setenv("FLUXION_CACHE", "0")
    assert code()[2] and not cache.exists()


def test_an_empty_result_needs_no_kernel():
    assert shifted(jnp.zeros(0), outputs=jnp.zeros(0)).shape == (0,)


def test_the_same_kernel_may_be_defined_again():
    for _ in range(2):

        @kernel
        def again(k, x, y):
            with k.parallel(1) as f:
                f[y][0] = f[x][0] + 1.0

        assert again(jnp.zeros(1), outputs=jnp.zeros(1)).tolist() == [1.0]


# -------------------------------------------------------------------- kernels that are compiled meanwhile


@pytest.fixture
def ours(cache):
    """A kernel that no other test uses, which is compiled in another thread as the library's own are."""
    gates._free.extend(gates._new_gates(host()))

    @kernel
    def doubled(k, x, y, *, test):
        with k.parallel(1) as f:
            for i, lanes in f.vectors(x.size):
                f[y].store(f[x].load(i, lanes) * 2.0, i, lanes)

    doubled._ours = True
    x = jnp.arange(5.0)
    yield lambda test: doubled(x, outputs=x, test=test).tolist()
    gates.finish()


def test_a_call_waits_at_the_gate_until_the_code_is_there(ours, cache, monkeypatch):
    compile_object, may_compile, results = objects.compile_object, threading.Event(), []
    monkeypatch.setattr(objects, "compile_object", lambda *given: may_compile.wait() and compile_object(*given))
    caller = threading.Thread(target=lambda: results.append(ours("waits")))
    caller.start()
    caller.join(0.2)
    assert caller.is_alive() and not results and not cache.exists()
    may_compile.set()
    caller.join()
    assert results == [[0.0, 2.0, 4.0, 6.0, 8.0]]
    gates.finish()
    assert len(list(cache.iterdir())) == 1


def test_a_kernel_that_cannot_be_compiled_is_an_error_of_the_call(ours, monkeypatch, capsys):
    monkeypatch.setattr(objects, "compile_object", lambda *_: "text" + 1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a kernel could not be compiled: see the error printed"):
        ours("fails")
    gates.finish()
    assert "TypeError: can only concatenate str" in capsys.readouterr().err


def test_where_no_thread_can_be_started_the_kernel_is_compiled_at_once(ours, monkeypatch):
    ended = ThreadPoolExecutor(1)
    ended.shutdown()
    monkeypatch.setattr(gates, "_compiler", ended)
    assert ours("at once") == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_a_kernel_that_was_registered_but_not_noted_is_found_again(ours, monkeypatch):
    ours("noted")
    monkeypatch.setattr(generated, "_registered", {})
    monkeypatch.setattr(generated, "_ready", weakref.WeakKeyDictionary())
    assert ours("noted") == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_there_are_always_more_gates():
    made = {gates.made_meanwhile(lambda: 0, host()) for _ in range(gates.COUNT + 1)}
    gates.finish()
    assert len(made) == gates.COUNT + 1


# -------------------------------------------------------------------- XLA's interface


SMALL = """
#define XLA_FFI_API_MAJOR 0  // a comment
#define XLA_FFI_API_MINOR 3
typedef enum { First = 1, Second = 2 } Kind;
typedef uint32_t Traits;
struct Inner { size_t struct_size; Kind kind; };
struct Outer {
  Kind kind;  /* aligned to 8 with what follows */
  struct Inner inner;
  Traits traits;
  const Inner* pointer;
  void (*function)(void* object);
};
"""


def test_structs_are_laid_out_as_c_does():
    header = abi.Header(SMALL)
    assert header.version() == (0, 3)
    assert header.layout("Inner") == abi.Layout(16, {"struct_size": 0, "kind": 8})
    offsets = {"kind": 0, "inner": 8, "traits": 24, "pointer": 32, "function": 40}
    assert header.layout("Outer") == abi.Layout(48, offsets)
    assert header.offset("Outer", "inner.kind") == 16 and header.value("Second") == 2


def test_what_is_missing_is_named():
    header = abi.Header(SMALL.replace("#define XLA_FFI_API_MINOR 3", ""))
    for asked, message in (
        (header.version, "defines no XLA_FFI_API_MINOR"),
        (lambda: header.layout("Other"), "no struct Other"),
        (lambda: header.offset("Inner", "size"), "Inner has no field size"),
        (lambda: header.value("Third"), "has no Third"),
    ):
        with pytest.raises(abi.Mismatch, match=message):
            asked()


def test_the_installed_xla_has_what_the_bridge_needs():
    abi.check()


@pytest.fixture
def forgetful():
    availability.usable_machine.cache_clear()
    yield
    availability.usable_machine.cache_clear()


def test_another_interface_turns_the_kernels_off_with_one_notice(monkeypatch, forgetful):
    monkeypatch.setattr(abi, "installed", lambda: abi.Header(SMALL))
    with pytest.warns(fx.kernels.KernelNotice, match=r"are off, XLA's own operations run: XLA's header has no struct"):
        assert availability.usable_machine() is None
    assert availability.usable_machine() is None  # and no second notice


def test_the_environment_turns_the_kernels_off(monkeypatch, forgetful):
    monkeypatch.setenv("FLUXION_KERNELS", "0")
    assert availability.usable_machine() is None


def test_without_llvmlite_convolution_runs_on_xla_with_one_notice():
    text = "import sys; sys.modules['llvmlite'] = None\nimport warnings; warnings.simplefilter('always')" + CONVOLVE
    text = text.replace("y = ", "warnings.showwarning = lambda m, *_: print(m)\ny = ") + "print(y.shape)"
    told, shape = script(text).splitlines()
    assert told.startswith("generated CPU kernels are off") and "pip install llvmlite" in told
    assert shape == "(2, 7, 7, 16)"


def test_importing_fluxion_does_not_import_llvm():
    assert script("import fluxion, sys; print('llvmlite' in sys.modules)") == "False"


def test_kernels_are_off_with_the_environment_variable():
    text = CONVOLVE + "import sys; print(fx.kernels.report(), 'llvmlite' in sys.modules)"
    assert script(text, FLUXION_KERNELS="0") == "no kernel has been chosen yet False"
