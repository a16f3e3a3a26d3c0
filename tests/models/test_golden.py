"""Networks give the logits of their references in segmentation_models_pytorch, which are stored in small files.

The files contain names and shapes of the reference's tensors, whose values are drawn from their names, and its results
at every sixth pixel. `make parity` compares the complete results of every network, and writes the files.
"""

from pathlib import Path

import numpy as np
import pytest
from compare import TOLERANCE, TRAIN_TOLERANCE, difference, loaded, outputs, tensors_of
from references import (
    BEITS,
    COMPARED_FEATURES,
    GOLDEN,
    NUM_CLASSES,
    OF_TORCHVISION,
    REFERENCE_ARCHITECTURES,
    VISION_TRANSFORMERS,
    sizes_of,
    train_batch_of,
)
from references import ENCODERS as REFERENCE_ENCODERS
from representatives import representatives

from flaxseg.models import build_model
from flaxseg.models.encoders import ENCODERS

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))
NAMES = [path.stem for path in FILES]
COVERED_BY_OTHERS = {"unet-resnet18", "unet-efficientnet_lite0", "unet-mit_b0"}
"""Cases whose encoder family and decoder are both compared in other cases."""

SLOW = {f"unet-{encoder}" for encoder in COMPARED_FEATURES}
SLOW |= {"unet-convnext_tiny", "unet-resnext50_32x4d", "unet-mobilenet_v2"}
"""Cases that take long to compile; the contract and the layers of their encoders are tested without compiling them."""

TRAINED = {"pspnet-resnet18", "fpn-resnet18", "unet-vgg11_bn"}
"""Cases that the ordinary suite compares also in training mode: batch normalization in encoder and decoder."""


def test_everything_with_a_reference_is_compared():
    assert {path.stem.replace("-", ":", 1) for path in FILES} == set(GOLDEN)
    assert {case.split(":")[0] for case in GOLDEN} == set(REFERENCE_ARCHITECTURES)
    assert set(ENCODERS) == {*REFERENCE_ENCODERS, *OF_TORCHVISION, *VISION_TRANSFORMERS, *BEITS}


def compared(name, *, train):
    """Returns the outputs of a network in one mode, and those of its reference.

    Compilation takes most of the time: training mode is compared at one size, inference mode at another, odd size.
    """
    architecture, encoder = name.split("-", 1)
    golden = np.load(Path(__file__).parent / "golden" / f"{name}.npz")
    model = build_model(architecture, num_classes=NUM_CLASSES, encoder=encoder)
    train_size, size = sizes_of(architecture, encoder)
    options = {"train_size": train_size if train else None, "sizes": [] if train else [size]}
    variables = loaded(model, tensors_of(golden, encoder))
    return outputs(model, variables, train_batch=train_batch_of(encoder), **options), golden


@pytest.mark.parametrize("name", representatives(NAMES, {*NAMES} - COVERED_BY_OTHERS - SLOW))
def test_logits_match_the_reference(name):
    found, golden = compared(name, train=False)
    ((logits, values),) = found.items()
    assert difference(values[:, ::6, ::6], golden[logits]) < TOLERANCE


@pytest.mark.parametrize("name", representatives(NAMES, TRAINED))
def test_logits_and_statistics_of_training_match_the_reference(name):
    found, golden = compared(name, train=True)
    assert difference(found["train_logits"][:, ::6, ::6], golden["train_logits"]) < TRAIN_TOLERANCE
    statistics = [np.abs(found[key]).mean() for key in sorted(found) if key.startswith("after/")]
    np.testing.assert_allclose(statistics, golden["statistics"], rtol=TRAIN_TOLERANCE)
