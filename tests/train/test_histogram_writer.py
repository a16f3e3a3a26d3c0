"""Histograms never end a run: gradients that the devices cannot compute are reported once."""

import types

import jax
import numpy as np
import pytest

from flaxseg.train.evaluation import Evaluation
from flaxseg.train.histogram_writer import HistogramWriter


def test_gradients_that_cannot_be_computed_are_reported_once_and_training_continues(monkeypatch, capsys):
    def fail(state):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    written = []
    summaries = types.SimpleNamespace(histograms=lambda step, arrays: written.append((step, [*arrays])))
    callback = HistogramWriter(summaries, ("parameters", "gradients"))
    callback._batches = types.SimpleNamespace(gradient=fail)
    state = types.SimpleNamespace(params={"kernel": jax.device_put(np.ones(3))})
    for step in (2, 4):
        callback.on_evaluation(step, Evaluation(None, {}, state=state))
    assert written == [(2, ["parameters/kernel"]), (4, ["parameters/kernel"])]
    assert capsys.readouterr().err == (
        "histograms of gradients cannot be computed (RESOURCE_EXHAUSTED: out of memory); training continues without "
        "them. To avoid the attempt, leave 'gradients' out of config.log.histograms\n"
    )
    # With several processes, the others wait in the same program.
    callback = HistogramWriter(summaries, ("gradients",))
    callback._batches = types.SimpleNamespace(gradient=fail)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(jax.errors.JaxRuntimeError):
        callback.on_evaluation(2, Evaluation(None, {}, state=state))
