"""The choice between kernels: by cost, by timing once, from the file of winners; and the settings of the user."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.kernels import choice, reports
from fluxion.kernels.candidate import Candidate, expected_seconds
from fluxion.kernels.machine import AVX2, AVX512, host
from fluxion.kernels.modes import Mode, current_mode

OPERANDS = [jax.ShapeDtypeStruct((3,), "float32")]


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FLUXION_CACHE", raising=False)
    choice._winners.cache_clear()
    yield
    choice._winners.cache_clear()


def slow(seconds):
    """A function that takes so long to run, not to compile."""

    def wait(x):
        time.sleep(seconds)
        return np.asarray(x)

    return lambda x: jax.pure_callback(wait, jax.ShapeDtypeStruct((3,), "float32"), x)


def candidates(*seconds, errors=None):
    names = ["a", "b", "c", "d", "e", "f"]
    rows = zip(names, seconds, errors or [1.0] * len(seconds), strict=False)
    return [Candidate(name, slow(0), expected, error) for name, expected, error in rows]


def chosen(found, mode=None, problem="a problem"):
    winner = choice.choose(problem, found, OPERANDS, host(), mode or Mode())
    return winner and winner.name


def test_the_clearly_fastest_is_chosen_without_timing(monkeypatch):
    monkeypatch.setattr(choice, "_race", lambda *_: pytest.fail("timed"))
    assert chosen(candidates(3.0, 1.0, 2.0)) == "b"
    assert chosen(candidates(1.0)) == "a" and chosen([]) is None
    assert chosen(candidates(9e-3, 9.01e-3)) == "a"  # too short to be worth finding out


def test_close_ones_are_timed_once_and_the_winner_is_kept(monkeypatch, tmp_path):
    found = [Candidate("tortoise", slow(0.02), 1.0), Candidate("hare", slow(0.0), 1.05), Candidate("far", slow(0), 9.0)]
    assert chosen(found) == "hare"
    assert reports.report()[-1].reason == "timed"
    (file,) = (tmp_path / "fluxion" / "kernels").glob("winners-*.json")
    assert json.loads(file.read_text()) == {"a problem | hare | tortoise": "hare"}
    monkeypatch.setattr(choice, "_race", lambda *_: pytest.fail("timed again"))
    assert chosen(found) == "hare"
    choice._winners.cache_clear()  # as in another process
    assert chosen(found) == "hare" and reports.report()[-1].reason == "timed before"


def test_what_another_process_found_meanwhile_is_kept(tmp_path):
    close = candidates(1.0, 1.01)
    assert chosen(close, problem="one") in ("a", "b")
    (file,) = (tmp_path / "fluxion" / "kernels").glob("winners-*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"of another": "x"}))
    assert chosen(close, problem="two") in ("a", "b")
    assert len(json.loads(file.read_text())) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a problem | a | b": "gone"}', '{"a problem | a | b": [3]}'])
def test_a_damaged_file_of_winners_is_made_anew(tmp_path, content):
    assert chosen(candidates(1.0, 1.01)) in ("a", "b")
    (file,) = (tmp_path / "fluxion" / "kernels").glob("winners-*.json")
    file.write_text(content)
    choice._winners.cache_clear()
    winner = chosen(candidates(1.0, 1.01))
    assert json.loads(file.read_text())["a problem | a | b"] == winner


def test_deterministic_never_times(monkeypatch):
    monkeypatch.setattr(choice, "_race", lambda *_: pytest.fail("timed"))
    assert chosen(candidates(1.01, 1.0), Mode(deterministic=True)) == "b"


def test_precise_leaves_out_what_rounds_more():
    found = candidates(1.0, 2.0, 3.0, errors=[2.5, 1.2, 1.0])
    assert chosen(found) == "a" and chosen(found, Mode(precise=True)) == "c"
    assert chosen(found[:2], Mode(precise=True)) is None  # XLA's own operation has no such candidate


def test_expected_seconds_count_idle_cores():
    machine = AVX512
    assert expected_seconds(machine, 1e9, 1.0, 0, 8) == expected_seconds(machine, 2e9, 1.0, 0, 8) / 2
    assert expected_seconds(AVX2, 1e9, 1.0, 0, 8) == 2 * expected_seconds(machine, 1e9, 1.0, 0, 8)
    assert expected_seconds(machine, 1e9, 1.0, 0, 8, "float64") == 2 * expected_seconds(machine, 1e9, 1.0, 0, 8)


# -------------------------------------------------------------------- settings


def test_use_holds_until_the_end_of_the_block():
    before = current_mode()
    with fx.kernels.use("xla", deterministic=True):
        assert current_mode() == Mode("xla", before.precise, True)
        with fx.precise():
            assert current_mode() == Mode("xla", True, True)
    assert current_mode() == before


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("fast",), {}, r"takes one of \('auto', 'direct', 'xla'\), got 'fast'"),
        ((3,), {}, "got 3"),
        ((), {"precise": 1}, "takes precise=True, False or None, got 1"),
        ((), {"deterministic": "no"}, "takes deterministic=True, False or None, got 'no'"),
    ],
)
def test_bad_settings_change_nothing(arguments, options, message):
    before = current_mode()
    with pytest.raises(ValueError, match=message):
        fx.kernels.use(*arguments, **options)
    assert current_mode() == before


def test_switching_compiles_anew():
    traced = []

    @jax.jit
    def run(x):
        traced.append(current_mode().kernels)
        return x

    compiled = fx.compile(lambda x: run(x))
    for mode in ("auto", "xla", "auto"):
        with fx.kernels.use(mode):
            compiled(jnp.ones(2))
    assert traced == ["auto", "xla"]
