"""Networks give the logits of their reference in segmentation_models_pytorch, which small files keep.

The files hold names and shapes of the reference's tensors, whose values follow from their names, and its results
thinned out; `make parity` compares the whole results of every network, and writes them.
"""

from pathlib import Path

import numpy as np
import pytest
from compare import TOLERANCE, TRAIN_TOLERANCE, difference, loaded, outputs, tensors_of
from references import ENCODERS as REFERENCE_ENCODERS
from references import GOLDEN, NUM_CLASSES, REFERENCE_ARCHITECTURES, sizes_of

from flaxseg.models import MODELS
from flaxseg.models.encoders import ENCODERS

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def test_everything_with_a_reference_is_compared_with_it():
    assert {path.stem.replace("-", ":", 1) for path in FILES} == set(GOLDEN)
    assert {case.split(":")[0] for case in GOLDEN} == set(REFERENCE_ARCHITECTURES)
    assert set(ENCODERS) == set(REFERENCE_ENCODERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_logits_and_statistics_are_the_references(path):
    architecture, encoder = path.stem.split("-", 1)
    golden = np.load(path)
    model = MODELS[architecture](num_classes=NUM_CLASSES, encoder=encoder)
    # Compiling takes the time: in training mode at one size, in inference mode at the other, which no stride divides.
    train_size, (height, width) = sizes_of(architecture)
    variables = loaded(model, tensors_of(golden, encoder))
    found = outputs(model, variables, train_size=train_size, sizes=[(height, width)])
    name = f"logits_{height}x{width}"
    assert difference(found[name][:, ::6, ::6], golden[name]) < TOLERANCE
    assert difference(found["train_logits"][:, ::6, ::6], golden["train_logits"]) < TRAIN_TOLERANCE
    statistics = [np.abs(found[name]).mean() for name in sorted(found) if name.startswith("after/")]
    np.testing.assert_allclose(statistics, golden["statistics"], rtol=TRAIN_TOLERANCE)
