"""What flaxseg.load returns predicts and scores as the training's own evaluation does."""

import dataclasses
import functools
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
from PIL import Image
from saved_run import save_run

import flaxseg
from flaxseg.data.datasets import shapes
from flaxseg.data.resize import resize_image
from flaxseg.data.splits import open_dataset
from flaxseg.deploy import network, tiles
from flaxseg.deploy.predictor import Predictor
from flaxseg.errors import ArgumentError
from flaxseg.inference.folding import FoldedModel
from flaxseg.inference.forward import inference_logits, padded_logits
from flaxseg.inference.receptive_field import NotLocal
from flaxseg.inference.tta import TTA
from flaxseg.ops import resize_bilinear
from flaxseg.train.compile import compile_run
from flaxseg.train.evaluation import evaluate

METRICS = ("per_image", "boundary", "calibration")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns directory, configuration, run and states of a run whose best checkpoint is its first."""
    directory = tmp_path_factory.mktemp("run")
    return directory, *save_run(directory, scores={2: 0.5, 4: 0.3}, overrides=OVERRIDES)


OVERRIDES = [
    "optimizer.ema_decay=0.5", "data.options.size=(20,27)", "eval.batch_size=8", f"eval.metrics={METRICS}",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(saved):
    return flaxseg.load(saved[0])


def variables(state):
    return jax.device_get({"params": state.ema_params, "batch_stats": state.batch_stats})


@functools.partial(jax.jit, static_argnums=2)
def logits_of(variables, image, module):
    return inference_logits(variables, image, model=module)


def images(*sizes, channels=3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, channels), np.uint8) for size in sizes]


def test_the_best_checkpoint_is_loaded_with_its_moving_average(saved, model):
    directory, *_, states = saved
    jax.tree.map(np.testing.assert_array_equal, dict(model.members[0].variables), variables(states[2]))
    assert model.classes == ("background", "disc", "square", "triangle", "border")
    assert len(model.palette) == 5
    assert repr(model) == f"Predictor({directory} (step 2): plain_unet, 5 classes)"


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/4"])
def test_a_checkpoint_is_chosen_by_its_step_or_directory(saved, place):
    directory, *_, states = saved
    step = None if place.endswith("4") else 4
    loaded = flaxseg.load(str(directory / place), step=step)
    jax.tree.map(np.testing.assert_array_equal, dict(loaded.members[0].variables), variables(states[4]))
    assert loaded.members[0].step == 4


def test_scores_equal_those_of_training_to_the_last_count(saved, model):
    _, _, run, states = saved
    expected = evaluate(run, compile_run(run, states[2]), states[2], shows_images=False)
    found = model.evaluate(run.data.evaluation, metrics=METRICS)
    np.testing.assert_array_equal(found.confusion.counts, expected.metrics.confusion.counts)
    assert found.compute(run.data.train.class_names) == expected.scores
    by_three = Predictor(model.members).evaluate(run.data.evaluation, batch_size=3)
    np.testing.assert_array_equal(by_three.confusion.counts, found.confusion.counts)


def test_predictions_are_what_the_evaluation_scored(saved):
    """Also those of lists, whose last batch is not full."""
    _, _, run, _ = saved
    source = run.data.evaluation.source
    examples = [source[index] for index in range(len(source))]
    given = [example["image"] for example in examples]
    model = flaxseg.load(saved[0], fold=False)
    masks = [model(image) for image in given]
    batched = flaxseg.load(saved[0], batch_size=5, fold=False)(given)
    counts = np.zeros((5, 5), np.int64)
    for example, mask, other in zip(examples, masks, batched, strict=True):
        assert mask.dtype == np.uint8 and mask.shape == example["label"].shape
        np.testing.assert_array_equal(mask, other)
        valid = example["label"] != flaxseg.IGNORE_LABEL
        np.add.at(counts, (example["label"][valid], mask[valid]), 1)
    np.testing.assert_array_equal(counts, model.evaluate(run.data.evaluation).confusion.counts)


def test_probabilities_are_those_of_logits_resized_to_the_images_own_size(saved):
    _, _, run, states = saved
    model = flaxseg.load(saved[0], fold=False)
    for image in images((20, 27), (70, 41), (1, 1)):
        resized = resize_image(image, (32, 32))[None]
        logits = logits_of(variables(states[2]), resized, run.model.module)
        expected = jax.nn.softmax(resize_bilinear(logits, image.shape[:2]))[0]
        found = model.probabilities(image)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(model(image), found.argmax(-1))


def test_large_images_are_finished_in_strips(model, monkeypatch):
    given = images((150, 90), (61, 90))
    masks = model(given)
    monkeypatch.setattr(network, "_MAX_STRIP_BYTES", 4 * 5 * 96 * 30)
    for image, mask, probabilities in zip(given, masks, model.probabilities(given), strict=True):
        np.testing.assert_array_equal(model(image), mask)
        assert probabilities.shape == (*mask.shape, 5)
        np.testing.assert_array_equal(probabilities.argmax(-1), mask)


def test_every_form_of_an_image_gives_the_same_mask(tmp_path, model):
    image = images((30, 40))[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = model(image)
    assert len(np.unique(expected)) > 1
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image), image.astype(np.float64)):
        np.testing.assert_array_equal(model(given), expected)
    masks = model([image, tmp_path / "a.png"])
    assert isinstance(masks, list) and len(masks) == 2
    np.testing.assert_array_equal(masks[1], expected)
    assert [each.shape for each in model.probabilities([image, image[:9]])] == [(30, 40, 5), (9, 40, 5)]
    assert model([]) == []


def test_an_overlay_has_the_colors_of_the_predicted_classes(model):
    image = images((30, 40))[0]
    opaque = model.overlay(image, alpha=1.0)
    np.testing.assert_array_equal(opaque, np.asarray(model.palette, np.uint8)[model(image)])
    assert model.overlay(image).shape == (30, 40, 3)


@pytest.mark.long
def test_images_that_keep_their_scale_are_padded_without_an_effect(saved):
    """Only to the stride, so that the prediction is that of the image alone, at its own size."""
    saved_model = flaxseg.load(saved[0]).members[0]
    keep = dataclasses.replace(saved_model, description=dataclasses.replace(saved_model.description, resize="keep"))
    model = Predictor([keep], batch_size=2, tile=64, fold=False)
    given = images((31, 45), (31, 45), (8, 8))
    for image, mask in zip(given, model(given), strict=True):
        logits = logits_of(keep.variables, image[None], keep.model)
        np.testing.assert_array_equal(mask, logits[0].argmax(-1))
    half = dataclasses.replace(keep, description=dataclasses.replace(keep.description, scale=0.5))
    logits = logits_of(keep.variables, resize_image(given[0], (16, 22))[None], keep.model)
    expected = jax.nn.softmax(resize_bilinear(logits, (31, 45)))[0]
    np.testing.assert_allclose(Predictor([half], fold=False).probabilities(given[0]), expected, atol=1e-5)


def test_images_larger_than_the_tile_are_predicted_in_tiles(saved):
    """Exact tiles give the classes of the whole image; blended ones of a constant image its own."""
    loaded = flaxseg.load(saved[0]).members[0]
    keep = dataclasses.replace(loaded, description=dataclasses.replace(loaded.description, resize="keep"))
    image = images((150, 97))[0]
    whole = Predictor([keep], tile=(160, 160))
    for options in ({"tiling": "exact", "tile": 64}, {"tiling": "exact", "tile": (64, 128), "batch_size": 3}):
        tiled = Predictor([keep], **options)
        np.testing.assert_array_equal(tiled(image), whole(image))
        np.testing.assert_allclose(tiled.probabilities(image), whole.probabilities(image), atol=1e-5)
    blended = Predictor([keep])
    assert blended(image).shape == (150, 97)
    assert [mask.shape for mask in blended([image, image[:20, :20], image])] == [(150, 97), (20, 20), (150, 97)]
    half = dataclasses.replace(keep, description=dataclasses.replace(keep.description, scale=0.5))
    np.testing.assert_array_equal(Predictor([half], tiling="exact", tile=64)(image), Predictor([half], tile=96)(image))
    with pytest.raises(ArgumentError, match="tile = 64: this network was trained on images that were resized"):
        flaxseg.load(saved[0], tile=64)
    with pytest.raises(ArgumentError, match="tiling = 'exakt': must be one of"):
        Predictor([keep], tiling="exakt")


@pytest.fixture(scope="module")
def keep(saved):
    """Returns the network as one that keeps the scale of images."""
    loaded = flaxseg.load(saved[0]).members[0]
    return dataclasses.replace(loaded, description=dataclasses.replace(loaded.description, resize="keep"))


def test_exact_tiles_are_as_large_as_the_memory_allows_and_say_what_they_cost(keep, monkeypatch):
    exact = Predictor([keep], tiling="exact")
    assert exact.tiles.tiling.halo == 8 and exact.tiles.size[0] % 2 == 0 and exact.tiles.size[0] > 500
    monkeypatch.setattr(tiles, "_free_memory", lambda: 2**20)
    small = Predictor([keep], tiling="exact")
    side = small.tiles.size[0]
    assert 20 <= side < 100
    assert f"up to {(side / (side - 16)) ** 2:.2f} pixels are computed for each" in small.tiles.note
    assert "the halo is 8 pixels, so that the result is that of the whole image" in small.tiles.note
    image = images((side + 30, 70))[0]
    np.testing.assert_array_equal(small(image), exact(image))


@pytest.mark.long
def test_a_smaller_halo_tells_its_error(keep):
    model = Predictor([keep], tiling="exact", tile=32, halo=2)
    found = re.search(r"a halo of 2 instead of 8 pixels changes logits by (\S+) of the largest", model.tiles.note)
    assert 1e-4 < float(found[1]) < 1
    assert "up to 1.31 pixels" in model.tiles.note
    for options, message in (
        ({"tiling": "exact", "halo": 3}, "halo = 3: must be a multiple of stride = 2"),
        ({"tiling": "exact", "tile": 16}, "tile = 16: must be a multiple of the stride, 2, and at least 18"),
        ({"halo": 2}, "halo = 2: only exact tiles have a halo"),
        ({"tiling": "exact", "tta": TTA(flips=("both",))}, "tiling = 'exact': cannot be combined with test-time"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Predictor([keep], **options)


def test_networks_that_need_the_whole_image_have_no_exact_tiles(keep):
    description = dataclasses.replace(keep.description, name="fpn", options={"encoder": "resnet18"})
    model, image = description.build(), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    other = dataclasses.replace(keep, description=description, model=model, variables=zeros)
    with pytest.raises(NotLocal, match="decoder"):
        Predictor([other], tiling="exact")


def test_an_ensemble_averages_probabilities(saved):
    paths = [saved[0] / "checkpoints" / step for step in ("2", "4")]
    both, (first, second) = flaxseg.load(paths, batch_size=2), (flaxseg.load(path) for path in paths)
    assert both.name == f"{first.name} + {second.name}"
    assert len({both.digest(), first.digest(), second.digest(), flaxseg.load(paths, flips=("both",)).digest()}) == 4
    # At the size that the network computes, where nothing is resized.
    given = images((32, 32), (32, 32))
    mean = np.mean([model.probabilities(given) for model in (first, second)], 0)
    np.testing.assert_allclose(both.probabilities(given), mean, atol=1e-6)
    np.testing.assert_array_equal(both(given), mean.argmax(-1))
    entropies = [
        scipy.stats.entropy(each, axis=-1) for each in (first.probabilities(given), second.probabilities(given))
    ]
    expected = scipy.stats.entropy(mean, axis=-1) - np.mean(entropies, 0)
    np.testing.assert_allclose(both.uncertainty(given, "disagreement"), expected, atol=1e-6)
    np.testing.assert_allclose(both.uncertainty(given), scipy.stats.entropy(mean, axis=-1), atol=1e-6)
    with pytest.raises(ArgumentError, match="kind = 'disagreement': needs an ensemble"):
        first.uncertainty(given, "disagreement")
    with pytest.raises(ArgumentError, match="kind = 'variance': must be one of 'entropy', 'margin', 'disagreement'"):
        first.uncertainty(given, "variance")


def test_networks_that_do_not_go_together_are_refused(saved):
    loaded = flaxseg.load(saved[0]).members[0]
    for field, value in (
        ("class_names", tuple("abcde")),
        ("channels", 1),
        ("image_size", (32, 64)),
        ("resize", "keep"),
    ):
        other = dataclasses.replace(loaded, description=dataclasses.replace(loaded.description, **{field: value}))
        with pytest.raises(ArgumentError, match=f"cannot be combined with .*: its {field} is"):
            Predictor([loaded, other])
    with pytest.raises(ArgumentError, match="at least one network"):
        flaxseg.load([])


@pytest.mark.long
def test_test_time_augmentation_of_small_large_and_resized_images(saved, keep):
    image = images((32, 20))[0]
    whole = Predictor([keep], tta=TTA((1.0, 1.5), ("horizontal",)), fold=False)
    views = []
    for size in ((32, 20), (48, 30)):
        scaled = resize_bilinear(image[None].astype(np.float32), size)
        for flip in (slice(None), slice(None, None, -1)):
            logits = logits_of(keep.variables, scaled[:, :, flip], keep.model)[:, :, flip]
            views.append(jax.nn.softmax(resize_bilinear(logits, (32, 20)))[0])
    np.testing.assert_allclose(whole.probabilities(image), np.mean(views, 0), atol=1e-5)
    large = images((70, 90))[0]
    flipped = Predictor([keep], tta=TTA(flips=("horizontal",)), tile=96)
    np.testing.assert_array_equal(flipped(large[:, ::-1])[:, ::-1], flipped(large))
    assert Predictor([keep], tta=TTA(flips=("horizontal",)), tile=48)(large).shape == (70, 90)
    model, plain = flaxseg.load(saved[0], flips=("vertical",)), flaxseg.load(saved[0])
    counts = model.evaluate(saved[2].data.evaluation).confusion.counts
    assert counts.sum() == plain.evaluate(saved[2].data.evaluation).confusion.counts.sum()
    assert (counts != plain.evaluate(saved[2].data.evaluation).confusion.counts).any()


def test_a_temperature_changes_probabilities_and_no_class(saved, model):
    loaded = model.members[0]
    warm = dataclasses.replace(loaded, description=dataclasses.replace(loaded.description, temperature=4.0))
    given = images((32, 32))[0]
    expected = scipy.special.softmax(np.log(np.maximum(model.probabilities(given), 1e-37)) / 4, -1)
    np.testing.assert_allclose(Predictor([warm]).probabilities(given), expected, atol=1e-5)
    np.testing.assert_array_equal(Predictor([warm])(given), model(given))
    pair = Predictor([warm, dataclasses.replace(loaded)])
    np.testing.assert_allclose(pair.probabilities(given), (expected + model.probabilities(given)) / 2, atol=1e-5)


@pytest.mark.long
def test_uncertainty_of_resized_and_of_large_images(saved, keep):
    model, image = flaxseg.load(saved[0]), images((40, 50))[0]
    probabilities = np.sort(model.probabilities(image), -1)
    np.testing.assert_allclose(model.uncertainty(image), scipy.stats.entropy(probabilities, axis=-1), atol=1e-5)
    np.testing.assert_allclose(
        model.uncertainty(image, "margin"), probabilities[..., -1] - probabilities[..., -2], atol=1e-6
    )
    large = Predictor([keep, keep], tile=32)
    entropy = large.uncertainty([image, image[:9]])
    assert [each.shape for each in entropy] == [(40, 50), (9, 50)]
    np.testing.assert_allclose(entropy[0], scipy.stats.entropy(large.probabilities(image), axis=-1), atol=1e-5)
    assert large.uncertainty(image, "disagreement").max() < 1e-6


def test_padding_is_zero_after_normalization(saved):
    keep = flaxseg.load(saved[0]).members[0]
    image = images((16, 24))[0][None]
    padded = np.full((1, 32, 32, 3), 77, np.uint8)
    padded[:, :16, :24] = image
    extent = np.array([[16, 24]], np.int32)
    logits = jax.jit(functools.partial(padded_logits, model=keep.model))
    np.testing.assert_allclose(
        logits(keep.variables, padded, extent)[:, :8, :8], logits(keep.variables, image, None)[:, :8, :8], atol=1e-5
    )


def test_predictions_are_folded_and_evaluations_are_not(saved, model):
    """Folding changes the rounding of probabilities alone; without it they are the network's own."""
    given = images((32, 32))[0]
    plain = flaxseg.load(saved[0], fold=False)
    np.testing.assert_allclose(model.probabilities(given), plain.probabilities(given), atol=5e-5)
    logits = jax.jit(functools.partial(padded_logits, model=plain.members[0].model))
    own = jax.nn.softmax(logits(plain.members[0].variables, given[None], None))[0]
    np.testing.assert_allclose(plain.probabilities(given), own, rtol=1e-6)
    dataset = saved[2].data.evaluation
    for each in (model, plain):
        folds = [call.model for call in each._network.logits.ensemble.members]
        assert all(isinstance(found, FoldedModel) for found in folds) == (each is model)
        assert not any(isinstance(found.model, FoldedModel) for found in each._network.exact.ensemble.members)
    expected, found = (each.evaluate(dataset).confusion.counts for each in (plain, model))
    np.testing.assert_array_equal(found, expected)


def test_a_dataset_of_other_classes_is_refused(saved, model):
    dataset = saved[2].data.evaluation
    names = dataset.class_names
    fewer = dataclasses.replace(dataset, num_classes=4, class_names=names[:4], palette=dataset.palette[:4])
    with pytest.raises(ArgumentError, match="has 4 classes, but the network 5: background, disc"):
        model.evaluate(fewer)
    with pytest.raises(ArgumentError, match="has the classes of the network in another order"):
        model.evaluate(dataclasses.replace(dataset, class_names=names[::-1]))
    with pytest.raises(ArgumentError, match="metrics = 'iou': must be one of 'per_image'"):
        model.evaluate(dataset, metrics=("iou",))
    renamed = dataclasses.replace(dataset, class_names=("a", "b", "c", "d", "e"))
    np.testing.assert_array_equal(model.evaluate(renamed).confusion.counts, model.evaluate(dataset).confusion.counts)


def test_arguments_out_of_range_are_refused(saved):
    with pytest.raises(ArgumentError, match="batch_size = 0"):
        flaxseg.load(saved[0], batch_size=0)
    with pytest.raises(ArgumentError, match="max_megapixels = 0"):
        flaxseg.load(saved[0], max_megapixels=0)
    with pytest.raises(flaxseg.DataError, match=r"the image: is 40x30"):
        flaxseg.load(saved[0], max_megapixels=0.001)(Image.new("RGB", (40, 30)))


def test_loading_needs_no_tensorflow_and_no_data(saved, tmp_path):
    program = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets"):
    sys.modules[name] = None
import numpy as np, flaxseg
print(flaxseg.load({str(saved[0])!r})(np.zeros((9, 7), np.uint8)).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "(9, 7)\n", done.stderr
    assert done.stderr == ""


def one_by_one(model, dataset):
    """Returns the confusion matrix of a dataset, computed one image and one class at a time, in float64."""
    counts = np.zeros((dataset.num_classes,) * 2, np.int64)
    # Large JPEG files are decoded at a fraction of their size, as far as the network's images allow it.
    source = dataset.source.reduced(model.description.image_size)
    for index in range(len(source)):
        example = source[index]
        image, label = resize_image(example["image"], model.description.image_size), example["label"]
        logits = np.asarray(logits_of(model.members[0].variables, image[None], model.members[0].model), np.float64)[0]
        resized = bilinear(bilinear(logits, label.shape[0]).swapaxes(0, 1), label.shape[1]).swapaxes(0, 1)
        prediction = resized.argmax(-1)
        for true in range(dataset.num_classes):
            for predicted in range(dataset.num_classes):
                counts[true, predicted] += int(((label == true) & (prediction == predicted)).sum())
    return counts


def bilinear(x, new):
    """Returns [new, ...] of [old, ...]: half-pixel centers, borders repeated."""
    old = len(x)
    rows = []
    for position in range(new):
        place = min(max((position + 0.5) * old / new - 0.5, 0), old - 1)
        low = min(int(place), max(old - 2, 0))
        weight = place - low
        rows.append(x[low] * (1 - weight) + x[min(low + 1, old - 1)] * weight)
    return np.stack(rows)


def test_evaluation_equals_a_slow_reference(saved, model):
    dataset = saved[2].data.evaluation
    np.testing.assert_array_equal(model.evaluate(dataset).confusion.counts, one_by_one(model, dataset))


@pytest.mark.long
def test_evaluation_of_real_images_equals_a_slow_reference(tmp_path, shared_data):
    overrides = [
        f"data.dir={shared_data / 'oxford_pets_mini'}", "data.train_split=trainval", "data.image_size=(64,64)",
        "model.options.width=4", "model.options.depth=2", "eval.batch_size=8",
    ]  # fmt: skip
    _, run, states = save_run(tmp_path, scores={1: 0.5}, file="configs/pet.py", overrides=overrides)
    model, dataset = flaxseg.load(tmp_path), run.data.evaluation
    found = model.evaluate(dataset).confusion.counts
    expected = evaluate(run, compile_run(run, states[1]), states[1], shows_images=False).metrics.confusion.counts
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, one_by_one(model, dataset))


def test_the_shapes_of_the_fixture_differ_from_the_networks(saved):
    assert shapes("test", size=(20, 27), count=1).source[0]["label"].shape == (20, 27)
    assert saved[2].model.image_shape == (32, 32, 3)


def test_a_network_that_keeps_the_scale_of_images_scores_and_predicts_as_its_training_scored(tmp_path):
    overrides = ["data.resize=keep", "data.image_size=(24,24)", "log.images=0"]
    config, run, states = save_run(tmp_path, scores={2: 0.5}, overrides=overrides)
    expected = evaluate(run, compile_run(run, states[2]), states[2], shows_images=False).metrics
    model, dataset = flaxseg.load(tmp_path, fold=False), open_dataset("shapes", "test", options=config.data.options)
    scores = model.evaluate(dataset, batch_size=4)
    np.testing.assert_array_equal(scores.confusion.counts, expected.confusion.counts)
    counts = np.zeros((5, 5), np.int64)
    for index in range(len(dataset.source)):
        example = dataset.source[index]
        np.add.at(counts, (example["label"], model(example["image"])), 1)
    np.testing.assert_array_equal(counts, scores.confusion.counts)
    exact, counts = flaxseg.load(tmp_path, tiling="exact", fold=False), np.zeros((5, 5), np.int64)
    for index in range(len(dataset.source)):
        example = dataset.source[index]
        np.add.at(counts, (example["label"], exact(example["image"])), 1)
    np.testing.assert_array_equal(exact.evaluate(dataset, whole=True).confusion.counts, counts)
    assert (counts != scores.confusion.counts).any()
    with pytest.raises(ArgumentError, match="whole = False: must be True with exact tiles"):
        exact.evaluate(dataset)
