"""Trains a U-Net from scratch on Cityscapes, on crops at full resolution (2,975 training images, 19 classes).

    flaxseg train --config=cityscapes --config.data.dir=DIR

DIR contains leftImg8bit/ and gtFine/, or it is a tfds folder, in which the dataset is prepared on first use from
leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip in DIR/downloads/manual. Scores are those of `val` at full
resolution, predicted in overlapping tiles, as published results report them. Crops of 512x1024 at half to twice the
scale are common, for example in MMSegmentation. For whole scenes at half resolution: --config.data.resize=stretch.

Dataset: Cordts et al. 2016, https://www.cityscapes-dataset.com/
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration, which has no variants."""
    if variant:
        raise ValueError(f"variant {variant!r}: this configuration has no variants")
    config = default_config()
    config.data.name = "cityscapes"
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.image_size = (512, 1024)
    config.data.resize = "keep"
    config.augment.scale = (0.5, 2.0)
    config.augment.max_class_fraction = 0.75
    config.augment.flip = 0.5
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 500
    config.optimizer.grad_clip = 1.0
    config.optimizer.ema_decay = 0.999
    config.train.batch_size = 8
    config.train.epochs = 100.0
    return config
