"""A run on cached features of a frozen encoder takes the steps of a run on images."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from representatives import representatives
from saved_run import save_run

from flaxseg.augment import make_augment
from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError, DataError
from flaxseg.inference.forward import normalize
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.encoders.encoder import Encoder
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.train import feature_cache
from flaxseg.train.build import build
from flaxseg.train.compile import Turn, compile_run
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.sharding import device_prefetch, place_batch
from flaxseg.train.state import create_state, load_weights
from flaxseg.train.training_data import read_batch, training_data
from flaxseg.train.views import Views

pytestmark = pytest.mark.usefixtures("small_encoder", "tiny_transformer")

FROZEN = [
    "optimizer.freeze=('encoder',)", "data.cache=features", "optimizer.name=sgd", "optimizer.options={}",
    "optimizer.schedule=constant", "optimizer.warmup_steps=0", "optimizer.learning_rate=0.1",
]  # fmt: skip
UNET = [
    "model.name=unet", "model.options={}", "model.options.encoder=small", "model.options.encoder_depth=3",
    "model.options.decoder_channels=(8,8,8)",
]  # fmt: skip
LINEAR = ["model.name=linear", "model.options={}", "model.options.encoder=tiny_vit", "model.options.multiscale=True"]
NETWORKS = {"unet": UNET, "linear": LINEAR}


@pytest.fixture(scope="module")
def tiny_transformer():
    """Adds a vision transformer with stochastic depth to ENCODERS, and to those that `linear` knows."""
    from flaxseg.models.encoders import vit

    def make(*, depth, output_stride, dtype):
        return VisionTransformer(4, 8, 2, 8, drop_path_rate=0.5, depth=depth, dtype=dtype)

    entry = Encoder(make, pretrained=None, patch=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "tiny_vit", entry)
        patch.setitem(vit.ENCODERS, "tiny_vit", entry)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Returns a function from the name of a network to the directory of its run, whose encoder is then frozen."""

    @functools.cache
    def directory(name):
        folder = tmp_path_factory.mktemp(name)
        save_run(folder, scores={1: 0.5}, overrides=[*NETWORKS[name], "log.images=0"])
        return folder

    return directory


def frozen(weights, name, *overrides):
    given = [*NETWORKS[name], *FROZEN, f"model.pretrained={weights(name)}", "log.images=0", "train.batch_size=8"]
    return load_config("configs/shapes.py:tiny", [*given, *overrides])


def opened(weights, name, *overrides):
    """Returns a run, its initial state, its training batches, and the training set on the devices."""
    run = build(frozen(weights, name, *overrides))
    state = create_state(run, load_weights(run))
    data, stored = training_data(run, state)
    return run, state, data.train_batches, stored


def steps_of(weights, name, *overrides, count=2):
    """Returns the losses of a few steps, and the state after them."""
    run, state, batches, stored = opened(weights, name, *overrides)
    train, losses, skipped = compile_run(run, state).train, [], jax.numpy.int32(0)
    for number in range(count):
        batch = place_batch(batches[number], run.loop.mesh)
        state, metrics, _ = train(state, batch, run.loop.step_key, stored, Turn(number, skipped, 0))
        losses.append(float(metrics.loss.compute()))
    return losses, jax.device_get(state)


# The U-Net has batch normalization in its encoder, and the transformer stochastic depth.
@pytest.mark.parametrize("name", representatives(NETWORKS, ["unet"]))
def test_steps_on_features_equal_steps_on_images(weights, name):
    (losses, state), (others, other) = (
        steps_of(weights, name, f"data.cache={cache}", "mesh.data=2") for cache in ("features", "none")
    )
    assert losses[0] == pytest.approx(others[0], rel=1e-5) and losses[1] != losses[0]
    for here, there in ((state.params, other.params), (state.batch_stats, other.batch_stats)):
        assert jax.tree.structure(here) == jax.tree.structure(there)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4), here, there)


@pytest.mark.long
def test_a_call_of_several_steps_takes_the_steps_on_features(weights):
    losses, state = steps_of(weights, "linear", "data.cache=features")
    run, initial, *_ = opened(weights, "linear", "data.cache=features", "train.steps_per_call=2", "eval.every=2")
    data, stored = training_data(run, initial)
    batch = next(device_prefetch(data.calls(start=0, steps=2), run.loop.mesh, is_stacked=True))
    called, metrics, _ = compile_run(run, initial).train(
        initial, batch, run.loop.step_key, stored, Turn(0, jax.numpy.int32(0), 0)
    )
    np.testing.assert_allclose(metrics.loss.total / metrics.loss.count, losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), jax.device_get(called), state)


AUGMENTED = ["data.cache_views=2", "augment.flip=0.5", "augment.brightness=0.2", "augment.cutmix=0.5"]


@pytest.mark.long
def test_a_resumed_run_with_views_equals_an_uninterrupted_one(weights, tmp_path):
    resumed = None
    for steps in (3, 6):
        resumed = train_and_evaluate(frozen(weights, "unet", *AUGMENTED, f"train.steps={steps}"), tmp_path / "resumed")
    whole = train_and_evaluate(frozen(weights, "unet", *AUGMENTED, "train.steps=6"), tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(result.state) for result in (resumed, whole)))


def test_each_epoch_has_another_view_until_they_repeat(weights):
    run, state, batches, stored = opened(weights, "unet", *AUGMENTED)
    assert stored == {}
    # Sixteen examples in batches of eight.
    assert [batches[step]["view"].tolist() for step in (0, 1, 2, 4)] == [[0] * 8, [0] * 8, [1] * 8, [0] * 8]
    by_view = {}
    for step in range(6):
        batch = batches[step]
        for row, index in enumerate(batch["index"].tolist()):
            by_view.setdefault((index, int(batch["view"][row])), []).append(batch["label"][row])
    assert {len(labels) for labels in by_view.values()} == {1, 2}
    for labels in by_view.values():
        np.testing.assert_array_equal(labels[0], labels[-1])
    # The batch of a record has the images that were encoded.
    recorded = read_batch(run, 2)
    np.testing.assert_array_equal(recorded["label"], batches[2]["label"])
    assert recorded["image"].shape == (8, 32, 32, 3) and recorded["image"].dtype == np.float32
    # A U-Net reads every feature, but of the image only the size.
    images = batches[2]["image"]
    assert [None if each is None else each.shape for each in images.features] == [
        None, (8, 16, 16, 4), (8, 8, 8, 6), (8, 4, 4, 8),
    ]  # fmt: skip
    assert images.shapes[0] == (32, 32, 3) and images.size == (32, 32)
    # A run that resumes computes the same features again.
    again, _ = training_data(run, state)
    jax.tree.map(np.testing.assert_array_equal, images.features, again.train_batches[2]["image"].features)
    fine = images.features[1]
    recomputed = run.model.module.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        normalize(recorded["image"], run.model.module),
        train=False,
        method="encode",
    )
    np.testing.assert_allclose(fine, recomputed[1], rtol=1e-4, atol=1e-5)


def test_views_do_not_depend_on_the_devices_and_follow_the_examples():
    examples = [
        {"image": np.full((4, 4, 3), 10 * i, np.uint8), "label": np.full((4, 4), i, np.uint8), "id": ""}
        for i in range(5)
    ]
    views = Views(5, examples.__getitem__, 2, None, seed=3, batch_size=4, num_threads=0)
    assert len(views) == 10 and len(dataclasses.replace(views, number=0)) == 5
    found = [(view, start, batch["label"][:, 0, 0].tolist()) for view, start, batch in views.batches()]
    assert found == [(view, start, rows) for view in (0, 1) for start, rows in ((0, [0, 1, 2, 3]), (4, [4, 4, 4, 4]))]
    read = []
    plain = dataclasses.replace(views, read=lambda index: read.append(index) or examples[index]).example(3, 1)
    assert (plain["image"][0, 0, 0], plain["label"][0, 0]) == (30, 3)
    assert read == [3]  # Only augmentation depends on the other examples of the batch.
    brightened = dataclasses.replace(views, augment_fn=make_augment(crop_size=(4, 4), brightness=0.5))
    one, other = (brightened.example(3, view)["image"] for view in (0, 1))
    assert np.abs(one - other).max() > 1


def test_features_that_do_not_fit_into_memory_are_an_error(weights, monkeypatch):
    monkeypatch.setattr(feature_cache, "available_memory", lambda: 2**15)
    with pytest.raises(
        DataError, match=r"'features': the features of 16 images of 32x32x3 need 0\.1 MiB, and 0\.0 MiB"
    ):
        opened(weights, "unet")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.freeze=('encoder/layer1',)"],
            r"features change, because \d+ of its parameters learn, such as enc",
        ),
        (["model.name=plain_unet", "model.options={}", "optimizer.freeze=('encoder',)"], "plain_unet has no encoder"),
    ],
)
def test_encoders_that_change_are_refused(weights, overrides, message):
    with pytest.raises(ConfigError, match=f"config.data.cache = 'features': .*{message}"):
        build(frozen(weights, "unet", *overrides))


def test_an_encoder_with_stochastic_depth_is_refused_unless_its_modules_are_frozen(weights):
    config = frozen(weights, "linear")
    build(config)
    config.optimizer.freeze = (r"encoder/(block\d/(attention|mlp|norm\d)|class_token|patch_embed|norm)",)
    with pytest.raises(ConfigError, match=r"features are random, because optimizer\.freeze covers its parameters"):
        build(config)
