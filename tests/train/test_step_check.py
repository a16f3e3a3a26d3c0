"""A step that is not finite changes nothing, and names the first of input, loss, gradient and update."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg import StepOptions, create_train_state, train_step
from flaxseg.losses.cross_entropy import cross_entropy
from flaxseg.models import plain_unet
from flaxseg.optimizers import make_optimizer, make_schedule
from flaxseg.train.step_check import KINDS, MEANING, NOT_TAKEN, StepCheck, check_step

KEY = jax.random.key(0)
OPTIONS = StepOptions(ema_decay=0.9, accumulate_steps=2)


def broken_image(key, batch):
    """Makes the third image infinite if the first label begins with 100 + 1."""
    fault = batch["label"][0, 0, 0] == 101
    return {**batch, "image": batch["image"].astype(jnp.float32).at[2, 1, 1, 0].add(jnp.where(fault, jnp.inf, 0))}


def broken_loss(logits, label):
    """Returns a loss that is NaN, has a NaN gradient, or is huge if the first label begins with 102, 103 or 104."""
    fault = label[0, 0, 0]
    parts = {
        "cross_entropy": cross_entropy(logits, label.at[0, 0, 0].set(255)),
        "broken": jnp.where(fault == 102, jnp.nan, 0.0),
        # The square root of 0 has an infinite derivative, times 0.
        "root": jnp.sqrt(jnp.where(fault == 103, 0.0, 1.0) * (1 + (logits**2).mean())),
        "huge": jnp.where(fault == 104, 1e9, 0.0),
    }
    return sum(parts.values()), parts


def infinite_above(limit):
    """Returns an optimizer whose update is infinite where the loss exceeds a limit."""

    def update(updates, state, params=None, *, value, **_):
        return jax.tree.map(lambda u: u.at[(0,) * u.ndim].add(jnp.where(value > limit, jnp.inf, 0)), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@pytest.fixture(scope="module")
def trained():
    """Returns a function fault -> batch, the jitted step, and a state after two good steps."""
    model = plain_unet(num_classes=3, width=4, depth=1)
    plateau = make_schedule("plateau", learning_rate=1e-2, warmup_steps=0, total_steps=20, options={"window": 2})
    tx = optax.chain(make_optimizer("adamw", schedule=plateau), infinite_above(1e6))
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (4, 8, 8, 3)), random.integers(0, 3, (4, 8, 8)).astype(np.uint8)

    def batch(fault):
        marked = label.copy()
        marked[0, 0, 0] = 100 + fault
        return {"image": image.astype(np.float32), "label": marked}

    create = partial(create_train_state, image=batch(0)["image"], model=model, tx=tx, options=OPTIONS)
    step = jax.jit(
        partial(train_step, model=model, loss_fn=broken_loss, tx=tx, augment_fn=broken_image, options=OPTIONS)
    )
    state = jax.jit(create)(KEY)
    for _ in range(2):
        state, metrics = step(state, batch(0), KEY)
        assert metrics.check.code == 0
    return batch, step, state


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_in_a_step_whose_first_problem_is(kind, trained):
    batch, step, state = trained
    assert state.batch_stats and state.ema_params is not None and int(state.step) == 2
    new, metrics = step(state, batch(1 + KINDS.index(kind)), KEY)
    assert KINDS[int(metrics.check.code) - 1] == kind
    assert metrics.check.describe().startswith(f"{MEANING[kind]}, so the step was not taken")
    assert metrics.check.finite_images.tolist() == [True, True, kind != "input", True]
    jax.tree.map(np.testing.assert_array_equal, new, state)
    again, metrics = step(new, batch(0), KEY)
    assert metrics.check.code == 0 and int(again.step) == 3
    assert metrics.check.describe() == ""
    for name in ("params", "batch_stats", "opt_state", "ema_params"):
        leaves = [jax.tree.leaves(getattr(each, name)) for each in (state, again)]
        assert any((a != b).any() for a, b in zip(*leaves, strict=True)), name


def test_a_finding_is_described_with_its_remedy():
    described = {code: StepCheck(jnp.asarray(code), None, None).describe() for code in (0, 2, NOT_TAKEN)}
    assert described == {
        0: "",
        2: "the loss is not finite, although every image is, so the step was not taken; "
        "look for a label that is neither a class nor 255, and for images in another range than 0..255",
        NOT_TAKEN: "the step was not taken, because one before it was not finite",
    }


def test_the_values_of_the_metrics_say_which(trained):
    batch, step, state = trained
    scalars = {kind: step(state, batch(1 + n), KEY)[1].compute() for n, kind in enumerate(KINDS)}
    assert np.isnan(scalars["loss"]["loss/broken"]) and np.isfinite(scalars["loss"]["loss/cross_entropy"])
    assert np.isfinite(scalars["gradient"]["loss"]) and np.isnan(scalars["gradient"]["grad_norm"])
    assert np.isfinite(scalars["update"]["grad_norm"]) and not np.isfinite(scalars["update"]["update_norm"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"update_norm": jnp.inf}, 4),
        ({"batch_stats": {"var": jnp.array([1.0, jnp.inf])}}, 4),
        ({"update_norm": jnp.nan, "grad_norm": jnp.inf}, 3),
        ({"update_norm": jnp.nan, "grad_norm": jnp.nan, "loss": -jnp.inf}, 2),
        ({"loss": jnp.nan, "image": jnp.array([[[[0.0]]], [[[jnp.nan]]]])}, 1),
        ({"image": jnp.zeros((2, 1, 1, 1), jnp.uint8)}, 0),
    ],
)
def test_the_first_problem_counts(change, code):
    finite = {
        "image": jnp.zeros((2, 1, 1, 1)),
        "loss": jnp.float32(3e38),
        "grad_norm": jnp.float32(1),
        "update_norm": jnp.float32(0),
        "batch_stats": {"var": jnp.array([1.0, 3e38])},
    }
    given = {name: jnp.asarray(value) if name != "batch_stats" else value for name, value in change.items()}
    check = jax.jit(check_step)(**{**finite, **given})
    assert int(check.code) == code
    assert check.finite_images.tolist() == [True, code != 1]


def test_a_gradient_whose_squares_overflow_is_not_taken():
    """Every element is finite, but the second moments of Adam would become infinite, and stay so."""
    gradient = jnp.full(4, 2e19)
    check = check_step(jnp.zeros((1, 1, 1, 1)), jnp.float32(1), optax.tree.norm(gradient), jnp.float32(1), {})
    assert int(check.code) == 3
    _, state = optax.adam(1e-3).update(gradient, optax.adam(1e-3).init(gradient))
    assert not jnp.isfinite(state[0].nu).any()
