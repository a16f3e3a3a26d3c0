"""Networks give the logits of their references in segmentation_models_pytorch, which are stored in small files.

The files contain names and shapes of the reference's tensors, whose values are drawn from their names, and its results
at every sixth pixel. `make parity` compares the complete results of every network, and writes the files.
"""

from pathlib import Path

import numpy as np
import pytest
from compare import TOLERANCE, TRAIN_TOLERANCE, difference, loaded, outputs, tensors_of
from references import ENCODERS as REFERENCE_ENCODERS
from references import GOLDEN, NUM_CLASSES, REFERENCE_ARCHITECTURES, sizes_of

from flaxseg.models import build_model
from flaxseg.models.encoders import ENCODERS

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))


def test_everything_with_a_reference_is_compared():
    assert {path.stem.replace("-", ":", 1) for path in FILES} == set(GOLDEN)
    assert {case.split(":")[0] for case in GOLDEN} == set(REFERENCE_ARCHITECTURES)
    assert set(ENCODERS) == set(REFERENCE_ENCODERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_logits_and_statistics_match_the_reference(path):
    architecture, encoder = path.stem.split("-", 1)
    golden = np.load(path)
    model = build_model(architecture, num_classes=NUM_CLASSES, encoder=encoder)
    # Compilation dominates: training mode is compared at one size, and inference mode at another, odd size.
    train_size, (height, width) = sizes_of(architecture)
    variables = loaded(model, tensors_of(golden, encoder))
    found = outputs(model, variables, train_size=train_size, sizes=[(height, width)])
    name = f"logits_{height}x{width}"
    assert difference(found[name][:, ::6, ::6], golden[name]) < TOLERANCE
    assert difference(found["train_logits"][:, ::6, ::6], golden["train_logits"]) < TRAIN_TOLERANCE
    statistics = [np.abs(found[name]).mean() for name in sorted(found) if name.startswith("after/")]
    np.testing.assert_allclose(statistics, golden["statistics"], rtol=TRAIN_TOLERANCE)
