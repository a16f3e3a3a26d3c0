"""What completion lists of the package, and the errors about names that it lacks."""

import pytest

import flaxseg
from flaxseg import losses, models


def test_completion_lists_what_is_public():
    found = dir(flaxseg)
    assert found == sorted(found) and {*flaxseg.__all__, "data", "losses", "metrics", "models"} <= {*found}
    assert not {"importlib", "sys", "Any", "TYPE_CHECKING", "exit_during_imports", "restart_with_large_pages"} & {
        *found
    }
    assert all(hasattr(flaxseg, name) for name in found)


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (flaxseg, "Unet", "flaxseg.unet"),
        (flaxseg, "deeplabv3plus", "flaxseg.build_model('deeplabv3plus', num_classes=...)"),
        (flaxseg, "DiceLoss", "flaxseg.losses.dice(logits, label)"),
        (flaxseg, "trainstep", "flaxseg.train_step"),
        (flaxseg, "save_weights", "flaxseg.save"),
        (flaxseg, "save_pretrained", "flaxseg.save"),
        (flaxseg, "load_weights", "flaxseg.load_pretrained"),
        (flaxseg, "from_pretrained", "flaxseg.load"),
        (flaxseg, "create_model", "flaxseg.build_model"),
        (models, "DeepLabV3Plus", "flaxseg.build_model('deeplabv3plus', num_classes=...)"),
        (losses, "DiceLoss", "flaxseg.losses.dice(logits, label)"),
        (losses, "SoftCrossEntropyLoss", "flaxseg.losses.cross_entropy(logits, label)"),
    ],
)
def test_names_of_other_libraries_lead_to_what_they_are_called_here(module, name, instead):
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value) == f"module {module.__name__!r} has no attribute {name!r}; did you mean {instead}?"
    assert callable(eval(instead.partition("(")[0]))


@pytest.mark.parametrize("name", ["__wrapped__", "zzzz"])
def test_other_names_have_the_usual_error(name):
    assert not hasattr(flaxseg, name)
    with pytest.raises(AttributeError, match=rf"^module 'flaxseg' has no attribute '{name}'$"):
        getattr(flaxseg, name)
