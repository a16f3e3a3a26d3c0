"""Trains a U-Net from scratch on Pascal VOC 2012 (1,464 training images, 21 classes).

    flaxseg train --config=voc --config.data.dir=DIR

DIR is the folder VOC2012, or the folder that VOCtrainval_11-May-2012.tar was unpacked into. The dataset is small for
its number of classes; expect a low score without a pretrained encoder. Images keep their size, up to 500x500; crops of
about 512x512 at half to twice the scale are those of DeepLab (https://arxiv.org/abs/1706.05587) and its successors.

Dataset: Everingham et al. 2015, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration, which has no variants."""
    if variant:
        raise ValueError(f"variant {variant!r}: this configuration has no variants")
    config = default_config()
    config.data.name = "voc"
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.image_size = (512, 512)
    config.data.resize = "keep"
    config.augment.scale = (0.5, 2.0)
    config.augment.max_class_fraction = 0.75
    config.augment.flip = 0.5
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_steps = 500
    config.optimizer.grad_clip = 1.0
    config.optimizer.ema_decay = 0.999
    config.train.batch_size = 16
    config.train.epochs = 100.0
    return config
