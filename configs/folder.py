"""Trains a U-Net on any folder of images and masks.

    flaxseg train --config=folder --config.data.dir=DIR

DIR contains images/ and masks/ with files of the same names. A fifth of them, selected by a seed, is used for
evaluation. Options of the dataset describe other layouts; see `flaxseg.data.datasets.folder`. For CamVid's layout:

    --config.data.options.images='{split}' --config.data.options.masks='{split}annot'
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration; the variant `binary` sets the values of the classes to 0 and 255."""
    config = default_config()
    config.data.name = "folder"
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.image_size = (256, 256)
    config.augment.scale = (0.8, 1.3)
    config.augment.flip = 0.5
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.optimizer.warmup_steps = 40
    config.optimizer.grad_clip = 1.0
    config.optimizer.ema_decay = 0.99
    config.train.epochs = 50.0
    if variant == "binary":
        config.data.options.values = (0, 255)
    elif variant:
        raise ValueError(f"variant {variant!r}: the only variant is 'binary'")
    return config
