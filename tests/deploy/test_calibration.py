"""The fitted temperature is the one that labels were drawn with."""

import dataclasses

import numpy as np
import pytest
from list_source import ListSource
from saved_run import save_run

import flaxseg
from flaxseg.data.types import IGNORE_LABEL, SegmentationDataset
from flaxseg.deploy import calibration
from flaxseg.deploy.calibration import calibrated
from flaxseg.errors import ArgumentError, DataError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    save_run(directory, scores={1: 0.5})
    return flaxseg.load(directory).members[0]


def labelled(saved, temperature, *, count=12):
    """Returns a dataset whose labels are drawn from the network's probabilities at a temperature; some are ignored."""
    model, rng, examples = flaxseg.Predictor([saved]), np.random.default_rng(0), []
    for index in range(count):
        image = rng.integers(0, 256, (33, 40, 3), np.uint8)
        powers = model.probabilities(image).astype(np.float64) ** (1 / temperature)
        bounds = np.cumsum(powers / powers.sum(-1, keepdims=True), -1)
        label = np.minimum((rng.random((33, 40, 1)) > bounds).sum(-1), 4).astype(np.uint8)
        label[:3] = IGNORE_LABEL
        examples.append({"image": image, "label": label, "id": str(index)})
    names = saved.description.class_names
    return SegmentationDataset(ListSource(examples), 5, names, saved.description.palette)


@pytest.mark.parametrize("temperature", [0.6, 3.0])
def test_the_temperature_of_the_labels_is_found(saved, temperature):
    dataset = labelled(saved, temperature)
    found = calibrated(saved, dataset)
    assert found.description.temperature == pytest.approx(temperature, rel=0.06)
    # The temperature that the network had before does not matter.
    again = dataclasses.replace(saved, description=dataclasses.replace(saved.description, temperature=7.0))
    assert calibrated(again, dataset).description == found.description
    assert found.variables is saved.variables


def test_large_datasets_are_sampled(saved, monkeypatch):
    monkeypatch.setattr(calibration, "MAX_PIXELS", 2400)
    assert calibrated(saved, labelled(saved, 3.0)).description.temperature == pytest.approx(3.0, rel=0.2)


def test_datasets_that_do_not_fit_are_refused(saved):
    dataset = labelled(saved, 1.0, count=1)
    names = dataset.class_names
    with pytest.raises(ArgumentError, match="in another order"):
        calibrated(saved, dataclasses.replace(dataset, class_names=names[::-1]))
    ignored = [{**dataset.source[0], "label": np.full((33, 40), IGNORE_LABEL, np.uint8)}]
    with pytest.raises(DataError, match="every pixel of the dataset is ignored"):
        calibrated(saved, dataclasses.replace(dataset, source=ListSource(ignored)))
