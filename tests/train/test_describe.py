"""The hyper-parameters that TensorBoard's table of runs shows first are those that learning depends on."""

from saved_run import DESCRIPTION

from flaxseg.config.files import load_config
from flaxseg.train.describe import hyper_parameters


def test_changed_keys_of_learning_are_shown_and_those_of_callbacks_are_not():
    overrides = ["optimizer.grad_clip=1.0", "train.callbacks=('wandb',)", "train.callback_options.wandb.project=pets"]
    base = load_config("shapes", [])
    before, found = (hyper_parameters(config, DESCRIPTION) for config in (base, load_config("shapes", overrides)))
    assert set(found.first) - set(before.first) == {"optimizer.grad_clip"}
    assert found.values["train.callback_options.wandb.project"] == "pets"
