"""The augmentation of a run."""

import jax
from ml_collections import ConfigDict

from flaxseg.augment import AugmentFn, is_off, make_augment
from flaxseg.augment.color import ineffective_changes
from flaxseg.config.validate import config_key
from flaxseg.errors import number_of
from flaxseg.report.console import print_line


def build_augmentation(config: ConfigDict, channels: int) -> AugmentFn | None:
    """Returns the augmentation of a valid configuration; None if every augmentation is off.

    Prints a notice for each color change that has no effect on images with this number of channels.
    """
    settings = config.augment
    for name in ineffective_changes(settings, channels=channels):
        notify(f"augment.{name} has no effect on images with {number_of(channels, 'channel')}")
    if all(is_off(name, value) for name, value in settings.items()):
        return None
    with config_key("augment"):
        return make_augment(crop_size=tuple(config.data.image_size), **settings)


def notify(message: str) -> None:
    """Prints a notice on stderr, from one process."""
    if jax.process_index() == 0:
        print_line(message)
