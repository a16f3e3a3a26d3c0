"""Tiles: positions by hand, equality with the whole image, constant images, and streams from and to files."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from flaxseg.errors import ArgumentError
from flaxseg.inference.exactness import exact_tiling, tiling_error, verify_exact
from flaxseg.inference.forward import inference_logits, normalize, padding_value
from flaxseg.inference.receptive_field import NotLocal
from flaxseg.inference.tiling import BlendTiling, ExactTiling, overhead, tiled_logits
from flaxseg.inference.windows import exact_axis
from flaxseg.models import build_model


def random_image(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def box(x):
    """A network of one class whose logits are means of 5x5 pixels, with zeros around the image."""
    return jax.lax.reduce_window(jnp.asarray(x)[..., :1], 0.0, jax.lax.add, (1, 5, 5, 1), (1, 1, 1, 1), "SAME") / 25


def constant(x):
    return jnp.broadcast_to(jnp.array([1.0, -3.5, 0.1]), (*x.shape[:3], 3))


def network(name, **options):
    """Returns a network's tiling and its jitted logits, with statistics that are not those of initialization."""
    model = build_model(name, num_classes=3, **options)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 64, 64, 3)), train=False))(jax.random.key(0))
    variables = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), variables)
    return exact_tiling(model, variables, 3), jax.jit(lambda x: inference_logits(variables, x, model=model))


def test_exact_positions_by_hand():
    axis = exact_axis(100, 40, halo=8, stride=4, pad=True)
    assert axis[:3] == (100, 40, [0, 24, 48, 60])
    assert axis.kept == [slice(0, 32), slice(32, 56), slice(56, 68), slice(68, 100)]


def test_exact_positions_of_a_length_that_is_no_multiple_of_the_stride():
    padded = exact_axis(98, 40, halo=8, stride=4, pad=True)
    assert padded[:3] == (100, 40, [0, 24, 48, 60])
    assert padded.kept[-1] == slice(68, 98)
    # The network itself pads 38 pixels to 40; the last 4 of these are as good as outside.
    shorter = exact_axis(98, 40, halo=8, stride=4, pad=False)
    assert shorter[:3] == (98, 38, [0, 20, 40, 60])
    assert shorter.kept[-1] == slice(68, 98)


def test_a_short_axis_is_one_tile_at_its_own_size():
    assert exact_axis(37, 40, halo=16, stride=4, pad=True)[:4] == (40, 40, [0], [slice(0, 37)])
    assert exact_axis(34, 40, halo=16, stride=4, pad=True)[:4] == (36, 36, [0], [slice(0, 34)])
    assert exact_axis(34, 40, halo=16, stride=4, pad=False)[:4] == (34, 34, [0], [slice(0, 34)])
    assert BlendTiling().axis(34, 40)[:3] == (34, 34, [0])


@pytest.mark.parametrize("length", [40, 41, 99, 100, 101, 1000])
def test_weights_of_blended_tiles_sum_to_one(length):
    axis = BlendTiling(overlap=0.57, sigma=0.125).axis(length, 40)
    assert axis.starts[-1] + axis.tile == axis.length == length
    sums = np.zeros(length)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        sums[start : start + axis.tile] += weights
    np.testing.assert_allclose(sums, 1, rtol=1e-6)
    assert (axis.weights > 0).all()


@pytest.mark.parametrize("size", [(90, 73), (64, 200), (20, 30), (20, 100)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_exact_tiles_of_a_known_network(size, batch_size):
    image = random_image(*size)
    whole = np.asarray(box(image[None].astype(np.float32)))[0]
    tiled = tiled_logits(jax.jit(box), image, tile=(32, 48), tiling=ExactTiling(2, 1), batch_size=batch_size)
    np.testing.assert_allclose(tiled, whole, rtol=1e-5)


def test_a_halo_that_is_too_small_is_wrong_at_the_seams_alone():
    image = random_image(64, 20)
    whole = np.asarray(box(image[None].astype(np.float32)))[0]
    tiled = tiled_logits(jax.jit(box), image, tile=32, tiling=ExactTiling(1, 1))
    # Tiles begin at rows 0, 30 and 32; rows are taken from the second and third from 31 and 33 on.
    wrong = np.flatnonzero(np.abs(tiled - whole).max((1, 2)) > 1e-3)
    assert wrong.tolist() == [30, 31, 33]


NETWORKS = [
    ("plain_unet", {"width": 4, "depth": 2}, 24),
    pytest.param(
        "unet",
        {"encoder": "resnet18", "encoder_depth": 3, "decoder_channels": (16, 8, 8)},
        72,
        marks=pytest.mark.long,
    ),
    pytest.param(
        "unetplusplus",
        {"encoder": "resnet18", "encoder_depth": 3, "decoder_channels": (16, 8, 8)},
        72,
        marks=pytest.mark.long,
    ),
    pytest.param("linknet", {"encoder": "resnet18", "encoder_depth": 3}, 64, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "options", "halo"), NETWORKS)
def test_exact_tiles_equal_the_whole_image(name, options, halo):
    tiling, logits_fn = network(name, **options)
    assert tiling.halo == halo
    image = random_image(2 * halo + 61, 2 * halo + 39)
    whole = np.asarray(logits_fn(image[None]))[0]
    tile = 2 * halo + 32
    tiled = tiled_logits(logits_fn, image, tile=tile, tiling=tiling)
    assert np.abs(tiled - whole).max() <= 1e-5 * np.abs(whole).max()
    np.testing.assert_array_equal(tiled.argmax(-1), whole.argmax(-1))
    # One stride less is not enough.
    smaller = ExactTiling(tiling.halo - tiling.stride, tiling.stride, tiling.fill)
    assert np.abs(tiled_logits(logits_fn, image, tile=tile, tiling=smaller) - whole).max() > 0


def test_tiles_are_exact_without_the_value_of_the_padding():
    tiling, logits_fn = network("plain_unet", width=4, depth=2)
    image = random_image(109, 86)
    whole = np.asarray(logits_fn(image[None]))[0]
    tiled = tiled_logits(logits_fn, image, tile=80, tiling=ExactTiling(tiling.halo, tiling.stride), batch_size=2)
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


def test_verification_accepts_the_halo_and_measures_a_smaller_one():
    tiling, logits_fn = network("plain_unet", width=4, depth=2)
    assert tiling == ExactTiling(24, 4, fill=(127.5,) * 3)
    assert verify_exact(logits_fn, tile=64, tiling=tiling, channels=3) <= 1e-5
    errors = [tiling_error(logits_fn, tile=64, tiling=ExactTiling(halo, 4), channels=3) for halo in (4, 12, 20)]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 1e-5
    with pytest.raises(NotLocal, match="halo of 12 and a stride of 4"):
        verify_exact(logits_fn, tile=64, tiling=ExactTiling(12, 4), channels=3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x.mean((1, 2), keepdims=True),
        lambda x: x + jnp.arange(x.shape[1])[:, None, None],
        lambda x: jax.image.resize(x[:, ::2, ::2], x.shape, "bilinear") * jnp.linspace(0, 1, x.shape[2])[:, None],
    ],
)
def test_verification_refuses_what_depends_on_the_position_or_the_whole(function):
    with pytest.raises(NotLocal, match="Use BlendTiling"):
        verify_exact(function, tile=64, tiling=ExactTiling(8, 2), channels=3)


def test_one_program_serves_images_of_all_sizes():
    traced = []

    def logits_fn(x):
        traced.append(x.shape)
        return box(x)

    logits_fn = jax.jit(logits_fn)
    for size in [(70, 90), (71, 93), (200, 65)]:
        tiled_logits(logits_fn, random_image(*size), tile=64, tiling=ExactTiling(8, 8, fill=(0.0,) * 3), batch_size=2)
    assert traced == [(2, 64, 64, 3)]


@pytest.mark.parametrize("tiling", [BlendTiling(), BlendTiling(0.3, 0.25), BlendTiling(0)])
@pytest.mark.parametrize("size", [(100, 77), (50, 130), (20, 30)])
def test_a_constant_network_gives_a_constant_image(tiling, size):
    tiled = tiled_logits(constant, random_image(*size), tile=32, tiling=tiling, batch_size=4)
    np.testing.assert_allclose(tiled, np.broadcast_to([1.0, -3.5, 0.1], (*size, 3)), rtol=1e-6)


def test_blended_tiles_of_a_small_receptive_field_are_exact_inside_tiles():
    image = random_image(90, 70)
    whole = np.asarray(box(image[None].astype(np.float32)))[0]
    tiled = tiled_logits(jax.jit(box), image, tile=40, tiling=BlendTiling())
    # Rows within 2 of a tile's inner border differ, and they weigh little.
    rows = [row for row in range(90) if all(abs(row - edge) > 2 for edge in (19, 20, 39, 40, 49, 50, 59, 60, 79, 80))]
    columns = [c for c in range(70) if all(abs(c - edge) > 2 for edge in (19, 20, 29, 30, 39, 40, 49, 50, 59, 60))]
    np.testing.assert_allclose(tiled[np.ix_(rows, columns)], whole[np.ix_(rows, columns)], rtol=1e-5)
    assert 0 < np.abs(tiled - whole).max() < 0.1 * whole.max()


def test_an_image_of_the_size_of_a_tile_is_computed_as_a_whole():
    image = random_image(40, 30)
    whole = np.asarray(box(image[None].astype(np.float32)))[0]
    np.testing.assert_allclose(tiled_logits(box, image, tile=40, tiling=BlendTiling()), whole, rtol=1e-6)


@pytest.mark.parametrize("tiling", [ExactTiling(2, 1), BlendTiling()])
def test_a_memory_map_is_read_and_written_in_blocks(tmp_path, tiling):
    image = np.memmap(tmp_path / "image", np.uint8, "w+", shape=(150, 130, 3))
    image[...] = random_image(150, 130)
    out = np.memmap(tmp_path / "mask", np.uint8, "w+", shape=(150, 130))
    heights = []

    def reduce(logits):
        heights.append(logits.shape[0])
        return (logits[..., 0] > 127).astype(np.uint8)

    result = tiled_logits(jax.jit(box), image, tile=40, tiling=tiling, reduce=reduce, out=out)
    assert result is out and max(heights) <= 40
    logits = tiled_logits(jax.jit(box), np.asarray(image), tile=40, tiling=tiling)
    np.testing.assert_array_equal(out, logits[..., 0] > 127)


def test_a_network_can_return_classes_for_exact_tiles():
    image = random_image(70, 50)
    labels = tiled_logits(lambda x: (x[..., 0] > 99).astype("uint8"), image, tile=32, tiling=ExactTiling(0, 1))
    np.testing.assert_array_equal(labels, image[..., 0] > 99)


def test_overhead_by_hand():
    assert overhead((100, 40), tile=40, tiling=ExactTiling(8, 4, fill=(0.0,))) == 4 * 40 / 100
    assert overhead((40, 30), tile=64, tiling=BlendTiling()) == 1


def test_padding_is_zero_after_normalization():
    model = build_model("unet", num_classes=2, encoder="resnet18")
    assert len(padding_value(model, 3)) == 3
    image = np.broadcast_to(np.asarray(padding_value(model, 4), np.float32), (1, 2, 2, 4))
    assert not np.asarray(normalize(jnp.asarray(image), model)).any()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tiling": ExactTiling(16, 4), "tile": 34}, "tile = 34: must be a multiple of stride = 4"),
        (
            {"tiling": ExactTiling(16, 4, fill=(0.0,) * 3), "tile": 32},
            "tile = 32: must be at least 36 for a halo of 16",
        ),
        ({"tiling": BlendTiling(), "tile": 0}, "tile = 0: must be an integer of at least 1"),
        ({"tiling": BlendTiling(), "tile": 40, "num_classes": 2}, "num_classes = 2: the network returns 1"),
        ({"tiling": BlendTiling(), "tile": 40, "batch_size": 0}, "batch_size = 0"),
    ],
)
def test_bad_arguments(options, problem):
    with pytest.raises(ArgumentError, match=problem):
        tiled_logits(box, random_image(100, 100), **options)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: ExactTiling(10, 4), "halo = 10: must be a multiple of stride = 4"),
        (lambda: BlendTiling(overlap=1.0), "overlap = 1.0"),
        (lambda: BlendTiling(sigma=0.0), "sigma = 0.0"),
        (lambda: tiled_logits(box, np.zeros((4, 4)), tile=8, tiling=BlendTiling()), r"must be \[H, W, C\]"),
        (lambda: tiling_error(box, tile=8, tiling=ExactTiling(4, 4), channels=1), "at least 2 \\* \\(halo"),
    ],
)
def test_bad_tilings(make, problem):
    with pytest.raises(ArgumentError, match=problem):
        make()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "tile"),
    [
        ("plain_unet", {}, 704),
        ("unet", {"encoder": "resnet34"}, 1504),
        ("unetplusplus", {"encoder": "resnet34", "decoder_channels": (64, 32, 32, 16, 8)}, 1504),
        ("linknet", {"encoder": "resnet34"}, 1504),
    ],
)
def test_exact_tiles_equal_the_whole_photograph(shared_data, name, options, tile):
    file = sorted((shared_data / "camvid_mini" / "val").glob("*.png"))[0]
    image = np.asarray(Image.open(file).convert("RGB").resize((2100, 1500)))
    tiling, logits_fn = network(name, **options)
    whole = np.asarray(logits_fn(image[None]))[0]
    # Tiles are padded within the network, as the whole image is: padded before it, they are another program, whose
    # rounding decides between classes of nearly equal logits.
    tiled = tiled_logits(logits_fn, image, tile=tile, tiling=ExactTiling(tiling.halo, tiling.stride))
    assert np.abs(tiled - whole).max() <= 1e-5 * np.abs(whole).max()
    np.testing.assert_array_equal(tiled.argmax(-1), whole.argmax(-1))


MEMORY_PROGRAM = """
import sys
from pathlib import Path
import jax, numpy as np
from flaxseg.inference.tiling import ExactTiling, tiled_logits

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

def reduce(logits):
    global peak
    peak = max(peak, resident())
    return (logits[..., 0] > 3).astype(np.uint8)

folder, size, peak = Path(sys.argv[1]), int(sys.argv[2]), 0
image = np.memmap(folder / "image", np.uint8, "w+", shape=(size, size, 3))
out = np.memmap(folder / "mask", np.uint8, "w+", shape=(size, size))
logits_fn = jax.jit(lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 5, 5, 1), (1, 1, 1, 1), "SAME"))
tiled_logits(logits_fn, image, tile=512, tiling=ExactTiling(2, 1), batch_size=2, reduce=reduce, out=out)
print(peak)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of the process from /proc")
def test_memory_does_not_grow_with_the_image(tmp_path):
    peaks = []
    for size in (2048, 6000):
        command = [sys.executable, "-c", MEMORY_PROGRAM, str(tmp_path), str(size)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    # The larger image has 9 times the pixels; as float32 logits it would take 430 MB.
    assert peaks[1] < peaks[0] + 64
