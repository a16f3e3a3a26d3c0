"""The steps of several runs in one batched program are those of each run alone."""

import contextlib
import dataclasses
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.train.build import build
from flaxseg.train.compile import Inputs, Turn, compile_run
from flaxseg.train.early_compilation import EarlyCompilation
from flaxseg.train.fit import one_by_one
from flaxseg.train.sharding import place_batch, replicated, stacked
from flaxseg.train.state import create_state
from flaxseg.train.together import Batched

OVERRIDES = ["mesh.data=1", "augment.flip=0.5", "augment.brightness=0.2", "model.options.decoder_dropout=0.2"]
SEEDS = (0, 1, 2)
CALLS = ["train.steps_per_call=3", "log.every=3"]


class Steps:
    """What a program needs to know of a run between its steps."""

    def __init__(self, run, state):
        self.run, self.state, self.step = run, state, 0
        self.examples = []

    def inputs(self):
        mesh, count = self.run.loop.mesh, self.run.loop.call.steps
        batches = [self.run.data.train_batches[self.step + i] for i in range(count)]
        self.examples += [batch["index"].tolist() for batch in batches]
        batch = batches[0] if count == 1 else next(stacked(iter(batches), count))
        stored = self.run.data.load_cache() if self.run.data.load_cache else {}
        skipped = jax.device_put(np.int32(0), replicated(mesh))
        placed = place_batch(batch, mesh, is_stacked=count > 1)
        return Inputs(self.state, placed, self.run.loop.step_key, stored, Turn(self.step, skipped, 0))

    def receive(self, call):
        self.state, self.step = call.state, self.step + self.run.loop.call.steps


def runs_of(*overrides, seeds=SEEDS):
    run = build(load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides]))
    return [run.of_seed(seed) for seed in seeds]


def train(runs, states, *, calls, is_batched):
    """Returns the runs after some calls, each with the states in between on the host."""
    members = [Steps(run, state) for run, state in zip(runs, states, strict=True)]
    take_step = (
        Batched(members) if is_batched else one_by_one(EarlyCompilation(runs[0], compile_run(runs[0], states[0])))
    )
    history = [[] for _ in members]
    for _ in range(calls):
        for member, call, seen in zip(members, take_step(members), history, strict=True):
            member.receive(call)
            seen.append(jax.device_get(member.state))
    return members, take_step, history


def new_states(runs):
    return [create_state(run, None) for run in runs]


def assert_equal(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def difference(found, expected):
    """Returns the norm of the difference of two trees of arrays, relative to that of the second one."""
    found, expected = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (found, expected))
    return np.linalg.norm(np.float64(found) - expected) / np.linalg.norm(np.float64(expected))


@pytest.fixture(scope="module")
def trained():
    """Returns three runs after two steps, alone and together, and what takes the steps of the latter."""
    runs = runs_of()
    alone, _, expected = train(runs, new_states(runs), calls=2, is_batched=False)
    together, take_step, found = train(runs, new_states(runs), calls=2, is_batched=True)
    return (alone, expected), (together, found), take_step


@pytest.mark.long
def test_first_gradients_are_those_of_each_run(trained, record_property):
    """Adam's first moment after one step is a tenth of the gradient."""
    (alone, expected), (together, found), _ = trained
    assert [each.examples for each in together] == [each.examples for each in alone]
    assert len({str(each.examples) for each in together}) == 3
    moments = [[optax_mu(history[0].opt_state) for history in histories] for histories in (found, expected)]
    worst = max(difference(ours, theirs) for ours, theirs in zip(*moments, strict=True))
    assert worst < 1e-6
    record_property("figure", f"three seeds in one program: gradients of the first step within {worst:.1g}")


def optax_mu(opt_state):
    (mu,) = [each.mu for each in jax.tree.leaves(opt_state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(each, "mu")]
    return mu


@pytest.mark.long
def test_runs_that_are_not_due_do_not_change(trained):
    """Whichever of the runs are due, each step is the same, bit for bit."""
    _, (members, found), take_step = trained
    first, second = ([history[i] for history in found] for i in range(2))
    for member, before in zip(members, first, strict=True):
        member.state, member.step = jax.device_put(before, replicated(member.run.loop.mesh)), 1
    (call,) = take_step(members[1:2])
    assert_equal(call.state, second[1])
    for member, expected in zip(members, (first[0], second[1], first[2]), strict=True):
        assert_equal(member.state, expected)
    calls = take_step([members[0], members[2]])
    assert len(calls) == 2
    for member, expected in zip(members, second, strict=True):
        assert_equal(member.state, expected)


@contextlib.contextmanager
def in_float64():
    with jax.enable_x64(True), unittest.mock.patch.object(jnp, "float32", jnp.float64):
        yield


@pytest.mark.long
def test_twenty_steps_in_float64_are_those_of_each_run(record_property):
    runs = runs_of("train.steps=20", "train.batch_size=4", "data.image_size=(16,16)", "optimizer.warmup_steps=0")
    given = [jax.device_get(state) for state in new_states(runs)]
    module = runs[0].model.module.clone(dtype=jnp.float64)
    runs = [dataclasses.replace(run, model=dataclasses.replace(run.model, module=module)) for run in runs]
    with in_float64():
        wide = lambda x: x.astype(np.float64) if x.dtype == np.float32 else x  # noqa: E731
        where = replicated(runs[0].loop.mesh)
        states = [[jax.device_put(jax.tree.map(wide, state), where) for state in given] for _ in range(2)]
        alone, _, expected = train(runs, states[0], calls=20, is_batched=False)
        together, _, found = train(runs, states[1], calls=20, is_batched=True)
        assert [each.examples for each in together] == [each.examples for each in alone]
        worst = 0.0
        for ours, theirs, start in zip(found, expected, given, strict=True):
            assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(ours[-1].params))
            assert difference(start.params, theirs[-1].params) > 1e-3
            worst = max(worst, difference(ours[-1].params, theirs[-1].params))
    assert worst < 1e-8
    record_property("figure", f"three seeds in one program: parameters after 20 steps in float64 within {worst:.1g}")


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        ["mesh.data=8"],
        ["mesh.replicas=2", "mesh.data=2"],
        ["data.cache=device", "train.steps_per_call=3", "log.every=3"],
    ],
    ids=["data", "replicas", "calls"],
)
def test_devices_and_calls_change_nothing(overrides):
    runs = runs_of(*overrides)
    _, _, expected = train(runs, new_states(runs), calls=2, is_batched=False)
    _, _, found = train(runs, new_states(runs), calls=2, is_batched=True)
    for ours, theirs in zip(found, expected, strict=True):
        assert difference(ours[-1].params, theirs[-1].params) < 1e-4
