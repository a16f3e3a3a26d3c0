"""Augmentation: images and labels stay aligned, strengths of 0 have no effect, and the key determines the result."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from representatives import representatives

from flaxseg.augment import STRENGTHS, canvas_size, make_augment
from flaxseg.augment.color import COLOR
from flaxseg.augment.spatial import make_spatial_transform
from flaxseg.config.schema import default_config
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError
from flaxseg.train.sharding import make_mesh, place_batch

SIZE = (15, 17)
SPATIAL_OPTIONS = {
    "scale": {"scale": (0.6, 1.7)},
    "flip": {"flip": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "rotate90": {"rotate90": 1.0},
    "rotate": {"rotate": 40.0},
    "shear": {"shear": 30.0},
    "elastic": {"elastic": 0.06},
    "max_class_fraction": {"scale": (1.5, 1.5), "max_class_fraction": 0.6},
    "all": {"scale": (0.7, 1.9), "flip": 0.5, "flip_vertical": 0.5, "rotate90": 0.5, "rotate": 180.0, "shear": 10.0,
            "elastic": 0.03, "max_class_fraction": 0.9},
}  # fmt: skip


def coordinates(count=6, size=SIZE):
    """Returns images whose two channels are a pixel's row and column, and labels that number the pixels 0..254."""
    rows, columns = np.indices(size)
    image = np.stack([rows, columns], -1).astype(np.float32)
    label = (np.arange(size[0] * size[1]).reshape(size) % 255).astype(np.uint8)
    return {"image": np.repeat(image[None], count, 0), "label": np.repeat(label[None], count, 0)}


def coded_batch(height=24, width=30, block=6, count=4):
    """Returns a batch with blocks of a few classes, where the color of a pixel is its label times 40."""
    rows, columns = np.arange(height) // block, np.arange(width) // block
    label = np.stack([(rows[:, None] * 2 + columns + i) % 5 for i in range(count)]).astype(np.uint8)
    return {"image": np.repeat(label[..., None] * 40, 3, -1), "label": label}


def run(options, batch, seed=0, crop_size=None):
    crop_size = crop_size or batch["label"].shape[1:]
    return compiled(crop_size, tuple(options.items()))(jax.random.key(seed), batch)


@functools.cache
def compiled(crop_size, options):
    return jax.jit(make_augment(crop_size=crop_size, **dict(options)))


def linear_maps(batch):
    """Returns the linear map from positions in the crop to positions in the canvas, by least squares, [N, 2, 2]."""
    maps = []
    for image, label in zip(np.asarray(batch["image"], np.float64), batch["label"], strict=True):
        at = np.argwhere(
            (np.asarray(label) != IGNORE_LABEL) & (image > 0.5).all(-1) & (image < np.array(SIZE) - 1.5).all(-1)
        )
        design = np.c_[at, np.ones(len(at))]
        maps.append(np.linalg.lstsq(design, image[at[:, 0], at[:, 1]], rcond=None)[0][:2].T)
    return np.stack(maps)


@pytest.mark.parametrize("name", representatives(SPATIAL_OPTIONS, ("elastic", "max_class_fraction", "all")))
def test_image_and_label_stay_aligned_to_the_pixel(name):
    batch = coordinates(24)
    out = {key: np.asarray(value) for key, value in run(SPATIAL_OPTIONS[name], batch, seed=1).items()}
    inside = out["label"] != IGNORE_LABEL
    assert inside.mean() > 0.4
    assert (out["label"] != batch["label"]).mean() > 0.3
    # Bilinear interpolation of a ramp is exact: the image holds the sampled positions, and the label their pixels.
    row, column = np.floor(out["image"][inside] + 0.5).astype(int).T
    near_a_pixel_boundary = (np.abs((out["image"][inside] + 0.5) % 1 - 0.5) > 0.499).any(-1)
    same = out["label"][inside] == batch["label"][0][row, column]
    assert (same | near_a_pixel_boundary).all() and same.mean() > 0.95
    assert (out["image"][~inside] == 0).all()


def test_every_spatial_change_is_covered():
    keys = {key for options in SPATIAL_OPTIONS.values() for key in options}
    assert keys == set(default_config().augment) - set(COLOR) - {"cutmix"}
    assert set(default_config().augment) == {*STRENGTHS, "scale"}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_strength_zero_is_the_identity(dtype):
    options = {key: tuple(v) if isinstance(v, tuple) else v for key, v in default_config().augment.items()}
    batch = coded_batch()
    batch["image"] = batch["image"].astype(dtype)
    out = run(options, batch)
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_array_equal(out["image"], batch["image"])


@pytest.mark.parametrize(("key", "axis"), [("flip", 2), ("flip_vertical", 1)])
def test_a_flip_of_probability_1_is_a_flip(key, axis):
    batch = coded_batch()
    out = run({key: 1.0}, batch)
    np.testing.assert_array_equal(out["label"], np.flip(batch["label"], axis))
    np.testing.assert_array_equal(out["image"], np.flip(batch["image"], axis))


def test_a_flip_of_probability_one_half_flips_half_of_the_images():
    batch = {key: np.repeat(value[:1], 400, 0) for key, value in coded_batch().items()}
    out = run({"flip": 0.5}, batch)
    flipped = (np.asarray(out["label"]) == np.flip(batch["label"], 2)).all((1, 2)).sum()
    assert 160 < flipped < 240  # five standard deviations around 200 are 150..250


def test_quarter_turns_are_exact():
    batch = coordinates(60, (15, 15))
    out = run({"rotate90": 1.0}, batch)
    seen = set()
    for image, label in zip(out["image"], out["label"], strict=True):
        (times,) = [k for k in range(4) if np.array_equal(label, np.rot90(batch["label"][0], k))]
        np.testing.assert_array_equal(image, np.rot90(batch["image"][0], times))
        seen.add(times)
    assert seen == {1, 2, 3}


def test_rotations_are_rotations_of_at_most_the_angle():
    maps = linear_maps(run({"rotate": 30.0}, coordinates(200)))
    np.testing.assert_allclose(maps @ maps.transpose(0, 2, 1), np.broadcast_to(np.eye(2), maps.shape), atol=1e-3)
    angles = np.rad2deg(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    assert -30 <= angles.min() < -27 and 27 < angles.max() <= 30.01
    assert np.abs(angles.mean()) < 5


def test_shear_tilts_columns_and_keeps_rows():
    maps = linear_maps(run({"shear": 25.0}, coordinates(200)))
    np.testing.assert_allclose(maps[:, 0], np.broadcast_to([1.0, 0.0], (200, 2)), atol=1e-3)
    np.testing.assert_allclose(maps[:, 1, 1], 1.0, atol=1e-3)
    lean = np.rad2deg(np.arctan(maps[:, 1, 0]))
    assert -25.01 <= lean.min() < -22 and 22 < lean.max() <= 25.01


def test_transforms_compose_as_matrices():
    maps = linear_maps(run({"rotate": 20.0, "scale": (1.5, 1.5), "flip": 1.0}, coordinates(50)))
    np.testing.assert_allclose(np.linalg.det(maps), -1 / 1.5**2, atol=2e-3)


def test_elastic_displacements_are_smooth_and_have_the_given_deviation_everywhere():
    size = 15, 18
    transform = jax.jit(make_spatial_transform(crop_size=size, elastic=0.04))
    grid = transform(jax.random.key(0), jnp.zeros((4000, *size), jnp.uint8), None)
    for axis, (length, positions) in enumerate(zip(size, (grid.rows, grid.columns), strict=True)):
        displacement = np.asarray(positions) - np.indices(size)[axis]
        # The standard error of these deviations is 1.1 %.
        np.testing.assert_allclose(displacement.std(0), 0.04 * length, rtol=0.05)
        np.testing.assert_allclose(displacement.mean(0), 0, atol=5 * 0.04 * length / 4000**0.5)
        assert np.diff(displacement, axis=1).std() < 0.7 * displacement.std()


@pytest.mark.parametrize("cap", [0.0, 0.7])
def test_crops_without_too_much_of_one_class(cap):
    label = np.zeros((64, 48, 48), np.uint8)
    label[:, :, 24:] = 1
    label[:, :4] = IGNORE_LABEL
    batch = {"image": np.zeros((64, 48, 48, 1), np.uint8), "label": label}
    out = np.asarray(run({"scale": (3.0, 3.0), "max_class_fraction": cap}, batch)["label"])
    ones, valid = (out == 1).sum((1, 2)), (out != IGNORE_LABEL).sum((1, 2))
    fraction = np.maximum(ones, valid - ones) / valid
    # A crop has a third of the image's width at a uniform position: about a third have at least 30 % of each class.
    within = (fraction <= 0.7 + 2 / 48).mean()
    assert within > 0.75 if cap else within < 0.45


def test_cutmix_pastes_a_rectangle_of_the_previous_image_and_label():
    number = np.arange(100, dtype=np.uint8)
    batch = {
        "image": np.tile(number[:, None, None, None] * 2, (1, 20, 30, 3)),
        "label": np.tile(number[:, None, None], (1, 20, 30)),
    }
    out = {key: np.asarray(value) for key, value in run({"cutmix": 0.8}, batch).items()}
    np.testing.assert_array_equal(out["image"], np.repeat(out["label"][..., None] * 2.0, 3, -1))
    pasted = out["label"] != batch["label"]
    for i in range(100):
        assert set(np.unique(out["label"][i][pasted[i]])) <= {(i - 1) % 100}
        rows, columns = pasted[i].any(1), pasted[i].any(0)
        np.testing.assert_array_equal(pasted[i], rows[:, None] & columns)
    assert 0.65 < pasted.any((1, 2)).mean() < 0.95
    assert 0.4 < pasted[pasted.any((1, 2))].mean() < 0.6


def test_zooming_in_yields_no_ignored_pixels():
    out = run({"scale": (1.0, 1.5)}, coded_batch(), seed=5)
    assert (np.asarray(out["label"]) != IGNORE_LABEL).all()


def test_pixels_outside_the_image_are_black_and_ignored():
    batch = {"image": np.full((3, 16, 16, 3), 200, np.uint8), "label": np.ones((3, 16, 16), np.uint8)}
    out = run({"scale": (0.5, 0.5)}, batch)
    label = np.asarray(out["label"])
    assert set(np.unique(label)) == {1, IGNORE_LABEL}
    np.testing.assert_allclose((label == 1).mean((1, 2)), 0.25, atol=0.07)
    image = np.asarray(out["image"][..., 0])
    assert (image[label == IGNORE_LABEL] == 0).all()
    np.testing.assert_allclose(image[label == 1], 200, atol=0.01)


def test_a_canvas_larger_than_the_crop_fills_it_at_scale_1():
    batch = coded_batch(48, 60, block=12)
    out = run({}, batch, crop_size=(24, 30))
    np.testing.assert_array_equal(out["label"], batch["label"][:, ::2, ::2])
    np.testing.assert_array_equal(out["image"], batch["image"][:, ::2, ::2])


def test_color_changes_keep_the_label_and_stay_in_range():
    batch = coded_batch()
    out = run({"brightness": 0.5, "contrast": 0.5, "saturation": 0.5}, batch)
    np.testing.assert_array_equal(out["label"], batch["label"])
    assert 0 <= float(out["image"].min()) <= float(out["image"].max()) <= 255
    assert float(jnp.abs(out["image"] - batch["image"]).max()) > 5


@pytest.mark.parametrize("channels", [1, pytest.param(4, marks=pytest.mark.long), 5])
def test_any_number_of_channels(channels):
    batch = coded_batch()
    batch["image"] = np.repeat(batch["image"][..., :1], channels, -1)
    out = run({"saturation": 0.5, "scale": (1.0, 1.2), "rotate": 10.0}, batch)
    assert out["image"].shape == (4, 24, 30, channels)
    np.testing.assert_allclose(out["image"], np.repeat(out["image"][..., :1], channels, -1), atol=1e-4)


def test_the_key_determines_the_result():
    batch, options = coded_batch(), {**SPATIAL_OPTIONS["all"], "brightness": 0.2, "cutmix": 0.5}
    first, again, other = (run(options, batch, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["label"], again["label"])
    assert not np.array_equal(first["image"], other["image"])


def test_any_mesh_computes_the_same():
    batch = {key: np.concatenate([value, value + 1]) for key, value in coded_batch().items()}
    augment = compiled((24, 30), tuple({**SPATIAL_OPTIONS["all"], "brightness": 0.2, "cutmix": 0.5}.items()))
    alone = augment(jax.random.key(3), batch)
    mesh = make_mesh(data=4, fsdp=1, spatial=2)
    spread = augment(jax.random.key(3), place_batch(batch, mesh))
    assert len(spread["image"].sharding.device_set) == 8
    np.testing.assert_array_equal(spread["label"], alone["label"])
    np.testing.assert_allclose(spread["image"], alone["image"], atol=1e-2)


def test_the_canvas_has_the_size_of_the_largest_zoom():
    assert canvas_size((128, 64), (1.0, 1.5)) == (192, 96)
    assert canvas_size((128, 64), (0.5, 0.8)) == (128, 64)


@pytest.mark.parametrize(
    "options",
    [{"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"contrast": -0.1}, {"rotate": -1.0}, {"shear": 90.0},
     {"rotate90": 1.5}, {"max_class_fraction": 2.0}, {"elastic": -0.1}, {"cutmix": 1.1}],
)  # fmt: skip
def test_strengths_out_of_range_are_named(options):
    with pytest.raises(ArgumentError, match=rf"^{next(iter(options))} = .*must be "):
        make_augment(crop_size=(8, 8), **options)


def test_an_unknown_augmentation_is_named():
    with pytest.raises(ArgumentError, match="^flop = 0.5: unknown augmentation; did you mean 'flip'"):
        make_augment(crop_size=(8, 8), flop=0.5)
