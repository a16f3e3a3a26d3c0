"""The progress bar moves over the steps that the device has finished."""

import io
import types

import numpy as np
import pytest

from flaxseg.train.progress import ProgressBar


class Value:
    """A value on a device."""

    def __init__(self, value=None):
        self.value = value
        self.finished = value is not None

    def is_ready(self):
        return self.finished

    def __array__(self, dtype=None, copy=None):
        assert self.finished, "the bar has waited for the device"
        return np.asarray(self.value, dtype)


def metrics(total=None):
    return types.SimpleNamespace(loss=types.SimpleNamespace(total=Value(total), count=np.int32(2)))


def test_the_bar_waits_for_the_device_only_once(capsys):
    run = types.SimpleNamespace(loop=types.SimpleNamespace(total_steps=10))
    steps = [metrics() for _ in range(3)]
    first = metrics(3.0)
    with ProgressBar("miou") as bar:
        bar.on_start(run, types.SimpleNamespace(step=3))
        assert "train, compiling:  30%" in capsys.readouterr().err
        bar._bar.start_t -= 100.0  # As if the first step had taken so long.
        bar._bar.last_print_t -= 100.0
        bar.on_step(4, first)
        assert "train, loss 1.5000" in capsys.readouterr().err
        assert bar._bar.format_dict["elapsed"] < 50.0
        for number, step in enumerate(steps, 5):
            bar.on_step(number, step)
        bar.on_log(5, {"loss": 0.25}, None)
        steps[0].loss.total.finished = steps[1].loss.total.finished = True
        bar.on_log(6, {"loss": 0.125}, None)
        times = bar._bar.start_t, bar._bar.last_print_t
        # As if the evaluation had taken so long.
        bar._logged, bar._bar.start_t, bar._bar.last_print_t = (each - 100.0 for each in (bar._logged, *times))
        bar.on_evaluation(6, types.SimpleNamespace(scores={"miou": 0.75, "cross_entropy/mean": 0.86718}))
        assert (bar._bar.start_t, bar._bar.last_print_t) == pytest.approx(times, abs=10.0)
        bar._logged, bar._bar.start_t, bar._bar.last_print_t = (each - 100.0 for each in (bar._logged, *times))
        bar.on_step(8, metrics())  # After the figures and the checkpoint of the evaluation.
        assert (bar._bar.start_t, bar._bar.last_print_t) == pytest.approx(times, abs=10.0)
    output = capsys.readouterr().err
    assert "\rtrain: step 6, miou 0.7500, cross_entropy 0.8672\n" in output
    shown = output.strip().split("\r")
    assert "train, loss 0.1250" in shown[-1]
    assert "6/10" in shown[-1] and "miou=0.7500" in shown[-1]


def test_an_error_closes_the_bar():
    with pytest.raises(RuntimeError, match="inside"), ProgressBar("miou"):
        raise RuntimeError("inside")


def test_a_notebook_shows_every_move_and_no_error(monkeypatch, capsys):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr("sys.stderr", stream)
    with ProgressBar("miou") as bar:
        bar.on_start(types.SimpleNamespace(loop=types.SimpleNamespace(total_steps=10)), types.SimpleNamespace(step=3))
        assert bar._bar.mininterval == 0.2
    assert stream.getvalue() == "" and "3/10" in capsys.readouterr().out


def test_a_run_that_is_complete_compiles_nothing(capsys):
    with ProgressBar("miou") as bar:
        bar.on_start(types.SimpleNamespace(loop=types.SimpleNamespace(total_steps=3)), types.SimpleNamespace(step=3))
    assert "train: 100%" in capsys.readouterr().err


def test_in_a_file_only_one_of_several_runs_has_a_bar_and_all_have_their_scores(capsys):
    run = types.SimpleNamespace(loop=types.SimpleNamespace(total_steps=4))
    with ProgressBar("miou", name="seed-0", row=0) as first, ProgressBar("miou", name="seed-1", row=1) as second:
        for bar, score in ((first, 0.25), (second, 0.5)):
            bar.on_start(run, types.SimpleNamespace(step=0))
            bar.on_evaluation(4, types.SimpleNamespace(scores={"miou": score}))
    output = capsys.readouterr().err
    assert "\x1b[A" not in output and "seed-1, compiling" not in output
    assert "seed-0: step 4, miou 0.2500\n" in output and "seed-1: step 4, miou 0.5000\n" in output
