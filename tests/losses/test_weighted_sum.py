"""The weighted sum of losses: its total, its parts, auxiliary logits, and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.losses import LOSSES, cross_entropy, dice, weighted_sum
from flaxseg.losses.terms import NAMES_ELSEWHERE


@pytest.fixture(scope="module")
def pixels():
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.random.normal(keys[0], (2, 5, 7, 4)), jax.random.randint(keys[1], (2, 5, 7), 0, 4).astype(jnp.uint8)


def test_total_and_parts(pixels):
    total, parts = weighted_sum({"cross_entropy": 2.0}, {"cross_entropy": {"label_smoothing": 0.1}})(*pixels)
    assert list(parts) == ["cross_entropy"]
    np.testing.assert_allclose(parts["cross_entropy"], cross_entropy(*pixels, label_smoothing=0.1), rtol=1e-6)
    np.testing.assert_allclose(total, 2 * parts["cross_entropy"], rtol=1e-6)


def test_a_loss_of_weight_zero_is_not_computed(pixels):
    _, parts = weighted_sum({"cross_entropy": 1.0, "no_such_module:loss": 0.0})(*pixels)
    assert list(parts) == ["cross_entropy"]


def test_weights_may_be_arguments_of_a_program(pixels, monkeypatch):
    """A loss of weight 0 contributes nothing, even where it and its gradient are NaN."""
    logits, label = pixels
    monkeypatch.setitem(LOSSES, "undefined", lambda logits, label: jnp.sqrt(-1 - jnp.square(logits)).sum())

    def objective(logits, weights):
        return weighted_sum(weights)(logits, label)

    differentiate = jax.value_and_grad(objective, has_aux=True)
    program = jax.jit(differentiate)
    for weights in ({"cross_entropy": 1.0, "dice": 0.5}, {"cross_entropy": 0.0, "dice": 2.0}):
        (total, parts), gradient = program(logits, {**weights, "undefined": 0.0})
        (expected, expected_parts), expected_gradient = differentiate(logits, weights)
        assert sorted(parts) == ["cross_entropy", "dice", "undefined"]
        np.testing.assert_allclose(total, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-8)
        for name, part in expected_parts.items():
            np.testing.assert_allclose(parts[name], part, rtol=1e-6)
    (total, _), gradient = program(logits, {"cross_entropy": 1.0, "dice": 0.0, "undefined": 1.0})
    assert np.isnan(total) and np.isnan(gradient).all() and program._cache_size() == 1


def test_auxiliary_logits_add_their_weighted_losses(pixels):
    logits, label = pixels
    heads = 2 * logits, logits[::-1]
    loss_fn = weighted_sum({"cross_entropy": 2.0, "dice": 0.5}, auxiliary_weight=0.3)
    total, parts = loss_fn(logits, label, *heads)
    main, main_parts = loss_fn(logits, label)
    assert list(parts) == ["cross_entropy", "dice", "auxiliary"] and list(main_parts) == ["cross_entropy", "dice"]
    auxiliary = sum(2 * cross_entropy(head, label) + 0.5 * dice(head, label) for head in heads)
    np.testing.assert_allclose(parts["auxiliary"], auxiliary, rtol=1e-6)
    np.testing.assert_allclose(total, main + 0.3 * auxiliary, rtol=1e-6)
    for name, part in main_parts.items():
        np.testing.assert_array_equal(parts[name], part)


def test_the_auxiliary_weight_is_not_negative():
    with pytest.raises(ArgumentError, match="^auxiliary_weight = -1: must be a number of at least 0"):
        weighted_sum({"dice": 1.0}, auxiliary_weight=-1)


def test_an_unknown_loss_is_named():
    with pytest.raises(ArgumentError, match=r"^weights = 'dise': unknown.*did you mean 'dice'\?"):
        weighted_sum({"dise": 1.0})


def test_an_unknown_option_is_named():
    with pytest.raises(ArgumentError, match=r"^options.dice.smoth = 1: no such option; did you mean 'smooth'"):
        weighted_sum({"dice": 1.0}, {"dice": {"smoth": 1}})


def test_errors_name_the_loss_and_its_option(pixels):
    loss_fn = weighted_sum({"dice": 1.0}, {"dice": {"smooth": -1.0}})
    with pytest.raises(ArgumentError, match="^options.dice.smooth = -1.0: must be a number of at least 0"):
        loss_fn(*pixels)


def own(logits, label, *, power=2.0):
    return (jnp.abs(logits).mean(-1) ** power * (label != 255)).mean()


def test_functions_are_keys(pixels):
    logits, label = pixels
    loss_fn = weighted_sum({"dice": 0.5, own: 2.0, "cross_entropy": 1.0}, {own: {"power": 3.0}, "dice": {"smooth": 1}})
    total, parts = loss_fn(logits, label)
    expected = {
        "dice": dice(*pixels, smooth=1),
        "own": own(*pixels, power=3.0),
        "cross_entropy": cross_entropy(*pixels),
    }
    assert list(parts) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-6)
    np.testing.assert_allclose(total, 0.5 * parts["dice"] + 2 * parts["own"] + parts["cross_entropy"], rtol=1e-6)
    steep = functools.partial(own, power=4.0)
    np.testing.assert_allclose(weighted_sum({steep: 1.0})(*pixels)[1]["own"], own(*pixels, power=4.0), rtol=1e-6)
    with pytest.raises(ArgumentError, match=r"^weights = \['own', 'own'\]: two losses are called own"):
        weighted_sum({own: 1.0, steep: 1.0})


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (["dice", "cross_entropy"], "write weighted_sum({'dice': 1.0, 'cross_entropy': 1.0})"),
        ("dice", "write weighted_sum({'dice': 1.0})"),
        (own, "write weighted_sum({own: 1.0})"),
        ([own], "write weighted_sum({own: 1.0})"),
        (None, 'write weighted_sum({"cross_entropy": 1.0})'),
    ],
)
def test_weights_are_a_dict(weights, problem):
    with pytest.raises(ArgumentError) as caught:
        weighted_sum(weights)
    assert str(caught.value).endswith(f": must be a dict of losses and their weights; {problem}")


@pytest.mark.parametrize(
    ("loss", "returned"),
    [
        (lambda logits, label: logits.mean(-1), "float32[2, 5, 7]"),
        (lambda logits, label: (logits.mean(), {}), "a tuple"),
        (lambda logits, label: label.sum(), "uint32[]"),
        (lambda logits, label: None, "None"),
    ],
)
def test_a_loss_that_returns_no_scalar_is_named(pixels, loss, returned):
    loss.__name__ = "own_loss"
    with pytest.raises(ArgumentError) as caught:
        weighted_sum({loss: 1.0})(*pixels)
    assert str(caught.value).startswith(
        f"weights = 'own_loss': this loss returned {returned}; it must return one number"
    )


@pytest.mark.parametrize(("name", "here"), NAMES_ELSEWHERE.items())
def test_names_of_other_libraries_lead_to_the_loss(name, here):
    assert here in LOSSES and name not in LOSSES
    with pytest.raises(ArgumentError, match=f"^weights = '{name}': unknown; it is called '{here}' here. Known are bi"):
        weighted_sum({name: 1.0})


def test_options_of_other_libraries_have_a_remedy():
    hint = "no such option; leave it out: pixels labeled 255 are always ignored; options are"
    with pytest.raises(ArgumentError, match=f"^options.cross_entropy.ignore_index = 255: {hint}"):
        weighted_sum({"cross_entropy": 1.0}, {"cross_entropy": {"ignore_index": 255}})
    with pytest.raises(ArgumentError, match="^options.own.powr = 1: no such option; did you mean 'power'"):
        weighted_sum({own: 1.0}, {own: {"powr": 1}})


def test_a_function_with_the_name_of_a_loss_has_its_own_options():
    def dice(logits, label, *, power):
        return (logits**power).mean()

    total, parts = weighted_sum({dice: 1.0}, {dice: {"power": 2}})(
        jnp.full((1, 2, 2, 3), 3.0), jnp.zeros((1, 2, 2), int)
    )
    assert float(total) == float(parts["dice"]) == 9
    with pytest.raises(ArgumentError, match=r"options.dice.smooth = 1: no such option; options are power"):
        weighted_sum({dice: 1.0}, {dice: {"smooth": 1}})
