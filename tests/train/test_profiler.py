"""A trace of chosen steps: which calls it contains, and that it ends with the run."""

import types

import jax
import jax.numpy as jnp
import pytest

from flaxseg.train import profiler
from flaxseg.train.profiler import Profiler


@pytest.fixture
def calls(monkeypatch):
    """Returns a list of what is asked of JAX's profiler, and of the steps of `take`."""
    found = []
    monkeypatch.setattr(profiler.jax.profiler, "start_trace", lambda directory: found.append("start"))
    monkeypatch.setattr(profiler.jax.profiler, "stop_trace", lambda: found.append("stop"))
    yield found
    assert Profiler._recording is None


def run_of(per_call=1):
    call = types.SimpleNamespace(steps=per_call)
    return types.SimpleNamespace(loop=types.SimpleNamespace(call=call, total_steps=6))


def take(callback, calls, *, begin, end, per_call=1):
    """Passes the events of a run to a callback, from one step to another."""
    callback.on_start(run_of(per_call), types.SimpleNamespace(step=begin))
    for step in range(begin + per_call, end + 1, per_call):
        calls.append(step)
        callback.on_step(step, jnp.zeros(()))
    callback.on_end(None)


@pytest.mark.parametrize(
    ("steps", "begin", "per_call", "expected"),
    [
        ((), 0, 1, [1, 2, 3, 4, 5, 6]),
        ((3, 4), 0, 1, [1, 2, "start", 3, 4, "stop", 5, 6]),
        ((1, 1), 0, 1, ["start", 1, "stop", 2, 3, 4, 5, 6]),
        ((3, 4), 3, 1, ["start", 4, "stop", 5, 6]),
        ((3, 4), 4, 1, [5, 6]),
        ((5, 9), 0, 1, [1, 2, 3, 4, "start", 5, 6, "stop"]),
        ((7, 9), 0, 1, [1, 2, 3, 4, 5, 6]),
        ((2, 3), 0, 2, ["start", 2, 4, "stop", 6]),
        ((3, 3), 0, 3, ["start", 3, "stop", 6]),
    ],
)
def test_the_calls_that_contain_the_steps_are_recorded(tmp_path, calls, steps, begin, per_call, expected):
    with Profiler(tmp_path, steps) as callback:
        take(callback, calls, begin=begin, end=6, per_call=per_call)
    assert calls == expected


def test_steps_after_the_end_of_a_run_are_reported(tmp_path, calls, capsys):
    for steps in ((6, 9), (7, 9)):
        with Profiler(tmp_path, steps) as callback:
            take(callback, calls, begin=6, end=6)
    error = capsys.readouterr().err
    assert error == f"{tmp_path}/plugins/profile: step 7 is not recorded: the run ends with step 6\n"


def test_a_trace_ends_with_an_error_of_the_run(tmp_path, calls):
    with pytest.raises(ZeroDivisionError), Profiler(tmp_path, (1, 5)) as callback:
        take(callback, calls, begin=0, end=2)
        callback._start_if_due(0, jnp.zeros(()))
        raise ZeroDivisionError
    assert calls == ["start", 1, 2, "stop", "start", "stop"]


def test_one_of_several_runs_records_and_only_in_the_first_process(tmp_path, calls, monkeypatch):
    with Profiler(tmp_path, (1, 2)) as first, Profiler(tmp_path, (1, 2)) as second:
        first._start_if_due(0, jnp.zeros(()))
        take(second, calls, begin=0, end=3)
    assert calls == ["start", 1, 2, 3, "stop"]
    calls.clear()
    monkeypatch.setattr(profiler.jax, "process_index", lambda: 1)
    with Profiler(tmp_path, (1, 2)) as callback:
        take(callback, calls, begin=0, end=2)
    assert calls == [1, 2]


def test_a_trace_that_cannot_be_recorded_is_reported_and_training_continues(tmp_path, calls, monkeypatch, capsys):
    def refuse(directory):
        raise RuntimeError("Only one profile may be run at a time.")

    monkeypatch.setattr(profiler.jax.profiler, "start_trace", refuse)
    with Profiler(tmp_path, (1, 2)) as callback:
        take(callback, calls, begin=0, end=4)
    assert calls == [1, 2, 3, 4]
    error = capsys.readouterr().err
    assert error == f"{tmp_path}/plugins/profile: the trace cannot be recorded (Only one profile may be run at a " \
        "time.); training continues\n"  # fmt: skip


# Of jaxlib's types, which are made on first use; an error there would end the process.
@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning")
def test_a_trace_holds_its_steps_where_the_profile_tab_finds_it(tmp_path):
    with Profiler(tmp_path, (2, 4)) as callback:
        callback.on_start(run_of(), types.SimpleNamespace(step=0))
        for number in range(1, 7):
            with jax.profiler.TraceAnnotation(f"call {number}"):
                result = jnp.ones(2) + number
            callback.on_step(number, result)
    (file,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(file)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events]
    names = [event.name for event in events]
    assert sorted(name for name in names if name.startswith("call ")) == ["call 2", "call 3", "call 4"]
    assert sorted(dict(event.stats)["step_num"] for event in events if event.name == "train") == [2, 3, 4]


def test_a_trace_ends_with_a_run_that_fails_while_others_continue(tmp_path, calls):
    with Profiler(tmp_path, (1, 5)) as failing, Profiler(tmp_path, (1, 5)) as other:
        failing._start_if_due(0, jnp.zeros(()))
        failing.on_error(ZeroDivisionError())
        other.on_error(ZeroDivisionError())
        assert calls == ["start", "stop"]
