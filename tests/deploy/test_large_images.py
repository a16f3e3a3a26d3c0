"""Images that are predicted in blocks have the mask of the whole image, and keep their format and georeference."""

import dataclasses
import errno
import os

import numpy as np
import pytest
import tifffile
from saved_run import save_run

import flaxseg
from flaxseg import predict
from flaxseg.deploy import large_images
from flaxseg.deploy.large_images import count_classes, predict_large
from flaxseg.deploy.mask_tiff import georeference
from flaxseg.deploy.predictor import Predictor
from flaxseg.errors import ArgumentError, DataError

SIZE = (150, 170)
OVERRIDES = ["data.resize=keep", "data.image_size=(24,24)", "log.images=0", "optimizer.ema_decay=0.5"]
GEOTIFF = [
    (33550, 12, 3, (0.5, 0.5, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 399960.0, 5800020.0, 0.0), True),
    (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632), True),
]
"""Pixels of 0.5 m from a corner in UTM zone 32N, EPSG:32632."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    save_run(directory, scores={2: 0.5}, overrides=OVERRIDES)
    return directory


@pytest.fixture(scope="module")
def model(run):
    return flaxseg.load(run, tile=64, batch_size=2)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def test_a_mask_in_blocks_equals_that_of_the_whole_image(model, pixels, tmp_path):
    expected = model(pixels)
    assert len(np.unique(expected)) > 1
    out = np.full(SIZE, 99, np.uint8)
    model.predict_into(pixels, out)
    np.testing.assert_array_equal(out, expected)
    np.save(tmp_path / "a.npy", pixels)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(32, 32), compression="zlib")
    for name, read in (("a.npy", np.load), ("a.tif", tifffile.imread)):
        mask = tmp_path / "out" / name
        size, areas = predict_large(model, str(tmp_path / name), mask)
        assert size == SIZE
        np.testing.assert_array_equal(read(mask), expected)
        np.testing.assert_array_equal(areas, np.bincount(expected.ravel(), minlength=5))
        size, counted = count_classes(str(mask), 5)
        assert size == SIZE
        np.testing.assert_array_equal(counted, areas)
    assert sorted(os.listdir(tmp_path / "out")) == ["a.npy", "a.tif"]


def test_values_reach_the_network_as_those_of_whole_images(run, pixels, tmp_path):
    """16 bits, a gray image for a network of three channels, and a palette."""
    model = flaxseg.load(run, tile=64)
    colors = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", pixels.astype(np.uint16) * 200, photometric="rgb", tile=(32, 32))
    tifffile.imwrite(tmp_path / "gray.tif", pixels[..., 0])
    tifffile.imwrite(tmp_path / "palette.tif", pixels[..., 0], photometric="palette", colormap=colors)
    for name in ("deep.tif", "gray.tif", "palette.tif"):
        predict_large(model, str(tmp_path / name), tmp_path / "mask.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), model(tmp_path / name))


def test_the_command_predicts_images_above_the_limit_in_blocks(run, model, pixels, tmp_path, capsys):
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    tifffile.imwrite(inputs / "a.tif", pixels, photometric="rgb", extratags=GEOTIFF)
    tifffile.imwrite(inputs / "small.tif", pixels[:20, :30], photometric="rgb", extratags=GEOTIFF)
    np.save(inputs / "b.npy", pixels)
    np.save(inputs / "c.npy", np.zeros((*SIZE, 6), np.uint8))
    arguments = [f"--model={run}", f"--input={inputs}", f"--output={output}", "--tile=64", "--max_megapixels=0.01"]
    assert predict.main(arguments) == 1
    captured = capsys.readouterr()
    assert "3 images predicted" in captured.out
    assert "c.npy: has 6 channels, but the network was trained on images of 3" in captured.err
    assert sorted(os.listdir(output / "masks")) == ["a.tif", "b.npy", "small.tif"]
    for name, size in (("a.tif", SIZE), ("small.tif", (20, 30))):
        mask = tifffile.imread(output / "masks" / name)
        np.testing.assert_array_equal(mask, model(pixels[: size[0], : size[1]]))
        assert georeference(str(output / "masks" / name)) == georeference(str(inputs / name)) != []
        with tifffile.TiffFile(output / "masks" / name) as file:
            np.testing.assert_array_equal(file.pages[0].colormap.T[:5] >> 8, model.palette)
            assert file.pages[0].is_tiled
    summary = (output / "summary.csv").read_text()
    (inputs / "c.npy").unlink()
    (output / "masks" / "small.tif").unlink()
    assert predict.main(arguments) == 0
    captured = capsys.readouterr()
    assert "1 image predicted, 2 were there before" in captured.out and captured.err == ""
    assert (output / "summary.csv").read_text() == summary
    assert predict.main([*arguments, "--overlay"]) == 0
    assert "of images of more than 0.01 megapixels, only masks are written" in capsys.readouterr().err
    assert os.listdir(output / "overlays") == ["small.png"]


# Of affine 3, which rasterio uses.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_rasterio_finds_the_georeference_of_the_image_in_its_mask(run, pixels, tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint8"}
    transform = rasterio.Affine(0.5, 0.1, 399960, 0.1, -0.25, 5800020)
    for name, crs in (("a.tif", "EPSG:32632"), ("b.tif", "+proj=laea +lat_0=47 +lon_0=11 +ellps=GRS80 +units=m")):
        with rasterio.open(tmp_path / name, "w", crs=crs, transform=transform, **profile) as file:
            file.write(pixels.transpose(2, 0, 1))
        with rasterio.open(tmp_path / name) as image:
            expected = image.crs, image.transform
        for limit in ("0.01", "1"):
            output = tmp_path / limit
            arguments = [f"--model={run}", f"--input={tmp_path / name}", f"--output={output}", "--tile=64"]
            assert predict.main([*arguments, f"--max_megapixels={limit}"]) == 0
            with rasterio.open(output / "masks" / name) as mask:
                assert (mask.crs, mask.transform) == expected
                assert mask.colormap(1)[1][:3] == flaxseg.load(run).palette[1]


def test_networks_that_resize_images_cannot_predict_in_blocks(model, pixels, tmp_path):
    np.save(tmp_path / "a.npy", pixels)
    saved = model.members[0]
    for change, problem in (({"resize": "stretch"}, r"resized to \(24, 24\)"), ({"scale": 0.5}, "scaled by 0.5")):
        other = Predictor(
            [dataclasses.replace(saved, description=dataclasses.replace(saved.description, **change))],
            max_megapixels=0.01,
        )
        with pytest.raises(ArgumentError, match=f"image = .*{problem}; predict it whole, or train"):
            other.predict_into(pixels, np.zeros(SIZE, np.uint8))
        with pytest.raises(DataError, match=f"a.npy: has more megapixels than max_megapixels = 0.01, and .*{problem}"):
            predict_large(other, str(tmp_path / "a.npy"), tmp_path / "out" / "a.npy")
        assert os.listdir(tmp_path / "out") == []


def test_no_space_left_stops_before_the_work_and_leaves_no_file(run, pixels, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    np.save(tmp_path / "a.npy", pixels)
    monkeypatch.setattr(large_images.os, "posix_fallocate", full, raising=False)
    arguments = [f"--model={run}", f"--input={tmp_path / 'a.npy'}", f"--output={tmp_path / 'out'}"]
    assert predict.main([*arguments, "--max_megapixels=0.01"]) == 1
    assert "masks/a.npy: there is no space left to write it; free some" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out" / "masks") == []
