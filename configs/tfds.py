"""Trains a U-Net on a dataset of TensorFlow Datasets, by default Oxford-IIIT Pet.

    flaxseg train --config=tfds --config.data.dir=DIR

DIR is a tfds folder, into which a dataset is downloaded and prepared on first use. To select another dataset, set its
name, the features that hold images and masks, and the classes, which have the mask values 0, 1, 2, ... unless `values`
lists others. See `flaxseg.data.datasets.tfds`.

    --config.data.options.name=NAME/CONFIG --config.data.options.mask_key=KEY
    --config.data.options.values='(0,1)' --config.data.options.class_names='("background","pet")'

Datasets and their features: https://www.tensorflow.org/datasets/catalog/overview
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration, which has no variants."""
    if variant:
        raise ValueError(f"variant {variant!r}: this configuration has no variants")
    config = default_config()
    config.data.name = "tfds"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.options.name = "oxford_iiit_pet"
    config.data.options.image_key = "image"
    config.data.options.mask_key = "segmentation_mask"
    config.data.options.values = (1, 2, 3)
    config.data.options.class_names = ("pet", "background", "border")
    config.data.image_size = (128, 128)
    config.augment.scale = (0.8, 1.3)
    config.augment.flip = 0.5
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.optimizer.warmup_steps = 40
    config.optimizer.grad_clip = 1.0
    config.optimizer.ema_decay = 0.99
    config.train.epochs = 10.0
    return config
