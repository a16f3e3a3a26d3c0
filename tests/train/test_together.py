"""The steps of several runs in one batched program are those of each run alone."""

import contextlib
import dataclasses
import itertools
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.config.files import load_config
from flaxseg.optimizers import plateau_multiplier
from flaxseg.train.build import build
from flaxseg.train.compile import Inputs, Turn, compile_run
from flaxseg.train.early_compilation import EarlyCompilation
from flaxseg.train.fit import one_by_one
from flaxseg.train.parts.optimization import Hyperparameters
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
        self.examples, self.update_norms = [], []

    def inputs(self):
        mesh, count = self.run.loop.mesh, self.run.loop.call.steps
        batches = [self.run.data.train_batches[self.step + i] for i in range(count)]
        self.examples += [batch["index"].tolist() for batch in batches]
        batch = batches[0] if count == 1 else next(stacked(iter(batches), count))
        stored = self.run.data.load_cache() if self.run.data.load_cache else {}
        skipped = jax.device_put(np.int32(0), replicated(mesh))
        placed = place_batch(batch, mesh, is_stacked=count > 1)
        turn = Turn(self.step, skipped, 0)
        return Inputs(self.state, placed, self.run.loop.step_key, stored, turn, self.run.optim.arguments)

    def receive(self, call):
        self.state, self.step = call.state, self.step + self.run.loop.call.steps
        self.update_norms.append(np.asarray(call.metrics.update_norm.total).mean())


def runs_of(*overrides, seeds=SEEDS):
    run = build(load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides]))
    return [run.as_member(seed) for seed in seeds]


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


def in_wide_arithmetic(runs, given):
    """Returns the runs with a network in float64, and their states, given on the host, in float64."""
    module = runs[0].model.module.clone(dtype=jnp.float64)
    wide = lambda x: x.astype(np.float64) if x.dtype == np.float32 else x  # noqa: E731
    where = replicated(runs[0].loop.mesh)
    return (
        [dataclasses.replace(run, model=dataclasses.replace(run.model, module=module)) for run in runs],
        [jax.device_put(jax.tree.map(wide, state), where) for state in given],
    )


TWENTY_STEPS = ["train.steps=20", "train.batch_size=4", "data.image_size=(16,16)", "optimizer.warmup_steps=0"]


@pytest.mark.long
def test_twenty_steps_in_float64_are_those_of_each_run(record_property):
    runs = runs_of(*TWENTY_STEPS)
    given = [jax.device_get(state) for state in new_states(runs)]
    with in_float64():
        alone, _, expected = train(*in_wide_arithmetic(runs, given), calls=20, is_batched=False)
        together, _, found = train(*in_wide_arithmetic(runs, given), calls=20, is_batched=True)
        assert [each.examples for each in together] == [each.examples for each in alone]
        worst = 0.0
        for ours, theirs, start in zip(found, expected, given, strict=True):
            assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(ours[-1].params))
            assert difference(start.params, theirs[-1].params) > 1e-3
            worst = max(worst, difference(ours[-1].params, theirs[-1].params))
    assert worst < 1e-8
    record_property("figure", f"three seeds in one program: parameters after 20 steps in float64 within {worst:.1g}")


SETTINGS = [
    (1e-3, {"cross_entropy": 1.0}),
    (2e-2, {"cross_entropy": 0.3, "dice": 0.7}),
    (3e-3, {"focal": 0.5}),
]


def single_runs(*overrides, settings=SETTINGS):
    """Returns the run of each setting, with its learning rate and loss weights as constants."""
    given = [[f"optimizer.learning_rate={rate}", f"loss={weights}"] for rate, weights in settings]
    return [build(load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides, *each])) for each in given]


def members_of_settings(*overrides):
    """Returns the runs of all settings, with their learning rates and loss weights as arguments of one program."""
    losses = sorted({name for _, weights in SETTINGS for name in weights})
    run = build(load_config("configs/shapes.py:tiny", [*OVERRIDES, *overrides]))
    given = [(rate, {name: weights.get(name, 0.0) for name in losses}) for rate, weights in SETTINGS]
    return [run.as_member(0, Hyperparameters(*each)) for each in given]


SGD = ["optimizer.name=sgd", "optimizer.options.nesterov=False", "optimizer.warmup_steps=0", "train.steps=20"]
PLATEAU = "{'window': 1, 'patience': 1, 'min_improvement': 100.0}"


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [["optimizer.schedule=one_cycle"], ["optimizer.schedule=plateau", f"optimizer.schedule_options={PLATEAU}"]],
    ids=["one_cycle", "plateau"],
)
def test_learning_rates_and_loss_weights_change_nothing_else(overrides, record_property):
    """The momentum after one step is the gradient."""
    singles, members = single_runs(*SGD, *overrides), members_of_settings(*SGD, *overrides)
    expected = [train([run], new_states([run]), calls=4, is_batched=False) for run in singles]
    for is_batched in (False, True):
        ours = train(members, new_states(members), calls=4, is_batched=is_batched)
        worst = 0.0
        for member, history, ((single,), _, (theirs,)) in zip(ours[0], ours[2], expected, strict=True):
            np.testing.assert_allclose(member.update_norms[0], single.update_norms[0], rtol=1e-6)
            worst = max(worst, difference(momentum(history[0]), momentum(theirs[0])))
            assert difference(history[-1].params, theirs[-1].params) < 1e-6
            reduced = plateau_multiplier(history[-1].opt_state)
            assert reduced == plateau_multiplier(theirs[-1].opt_state)
            assert (reduced < 0.02) == ("plateau" in overrides[0])
        assert worst < 1e-6
        record_property("figure", f"learning rates and loss weights in one program: first gradients within {worst:.1g}")


def momentum(state):
    (trace,) = [each.trace for each in jax.tree.leaves(state.opt_state, is_leaf=has_trace) if has_trace(each)]
    return trace


def has_trace(node):
    return hasattr(node, "trace") and not hasattr(node, "shape")


@pytest.mark.long
def test_learning_rates_alone_change_nothing_bit_for_bit():
    """On the CPU, where the runs take turns."""
    rates = (0.0173, 3e-4)
    singles = single_runs(settings=[(rate, {"cross_entropy": 1.0}) for rate in rates])
    members = [singles[0].as_member(0, Hyperparameters(learning_rate=rate)) for rate in rates]
    _, _, found = train(members, new_states(members), calls=2, is_batched=False)
    for run, ours in zip(singles, found, strict=True):
        assert_equal(ours[-1], train([run], new_states([run]), calls=2, is_batched=False)[2][0][-1])
    assert difference(found[0][-1].params, found[1][-1].params) > 1e-3


@pytest.mark.long
def test_twenty_steps_of_learning_rates_and_loss_weights_in_float64(record_property):
    singles, members = single_runs(*TWENTY_STEPS), members_of_settings(*TWENTY_STEPS)
    given = [jax.device_get(state) for state in new_states(members)]
    with in_float64():
        expected = []
        for run, state in zip(singles, given, strict=True):
            expected += train(*in_wide_arithmetic([run], [state]), calls=20, is_batched=False)[2]
        for is_batched in (False, True):
            _, _, found = train(*in_wide_arithmetic(members, given), calls=20, is_batched=is_batched)
            pairs = [(ours[-1].params, theirs[-1].params) for ours, theirs in zip(found, expected, strict=True)]
            worst = max(difference(*pair) for pair in pairs)
            assert worst < 1e-8
            assert min(difference(a[1], b[1]) for a, b in itertools.combinations(pairs, 2)) > 1e-3
    record_property("figure", f"learning rates and losses: parameters after 20 steps in float64 within {worst:.1g}")


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
