"""The step is compiled in a thread, for exactly the arguments that the training loop passes."""

import types

import jax
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.train import loop
from flaxseg.train.build import build
from flaxseg.train.compile import Inputs
from flaxseg.train.early_compilation import EarlyCompilation, _arguments
from flaxseg.train.parts.optimization import CONSTANTS
from flaxseg.train.sharding import device_prefetch, replicated
from flaxseg.train.state import abstract_state
from flaxseg.train.training_data import training_data


def run_of(*overrides):
    return build(load_config("configs/shapes.py:tiny", overrides))


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)), tree)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("data.cache=device", "data.options.count=18", "mesh.data=4"),
        ("train.steps_per_call=3", "log.every=3", "mesh.spatial=2"),
        ("data.resize=keep", "data.cache=host"),
    ],
)
def test_the_arguments_are_those_of_the_loop(overrides):
    run = run_of(*overrides)
    data, stored = training_data(run, None)
    steps, mesh = run.loop.call.steps, run.loop.mesh
    batch = next(device_prefetch(data.calls(start=0, steps=steps), mesh, is_stacked=steps > 1))
    skipped = jax.device_put(np.int32(0), replicated(mesh))
    state = abstract_state(run)
    found = Inputs(*_arguments(run, state, 0))
    assert found.state is state
    assert kinds(found.batch) == kinds(batch)
    assert kinds(found.stored) == kinds(dict(stored))
    assert (found.key.shape, found.key.dtype) == (run.loop.step_key.shape, run.loop.step_key.dtype)
    assert kinds(found.turn.skipped) == kinds(skipped) and (found.turn.number, found.turn.max_skipped) == (0, 0)
    assert found.hyperparameters == run.optim.arguments == CONSTANTS


def test_an_error_is_left_to_the_call():
    def fail(*_):
        raise ValueError("a loss of the user's own")

    compilation = EarlyCompilation(run_of(), types.SimpleNamespace(train=types.SimpleNamespace(lower=fail)))
    compilation.wait(), compilation.wait_for_python()  # Nothing has been started.
    compilation.start(None, step=0)
    compilation.wait_for_python()
    compilation.wait()


@pytest.mark.parametrize(
    ("latest", "is_alone", "expected"), [(None, True, [0]), (3, True, [3]), (6, True, []), (3, False, [])]
)
def test_the_step_of_a_complete_run_is_not_compiled(latest, is_alone, expected, monkeypatch):
    started = []
    monkeypatch.setattr(EarlyCompilation, "start", lambda self, shapes, *, step: started.append(step))
    run, checkpoints = run_of(), types.SimpleNamespace(latest_step=latest, improved_step=None)
    loop._begin_to_compile(run, abstract_state(run), checkpoints, is_alone=is_alone)
    assert started == expected
