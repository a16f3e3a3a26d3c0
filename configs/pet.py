"""Trains a U-Net on Oxford-IIIT Pet (3,680 training images; classes pet, background, border).

    flaxseg train --config=pet --config.data.dir=DIR

DIR is a tfds folder, in which the dataset is prepared on first use, or it contains the dataset's original folders
images/ and annotations/.

Variants: `small` for a CPU; `binary` for pet against background; `pretrained` with an EfficientNet-Lite0 encoder that
starts from public ImageNet weights, which are downloaded once (--config.model.pretrained=FILE reads them from a file
instead). The other variants train from scratch.

Scores are those of the test split, as published results report them, and the best checkpoint is selected on it, too.
To select it on images that are held out from training, set data.train_split=train[:90%] and
data.eval_split=train[90%:]. This requires a tfds folder; the original folders have only the splits that their lists
define.

Dataset: Parkhi et al. 2012, https://www.robots.ox.ac.uk/~vgg/data/pets/
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration of a variant."""
    config = default_config()
    config.data.name = "oxford_iiit_pet"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = (128, 128)
    config.augment.scale = (1.0, 1.3)
    config.augment.flip = 0.5
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 40
    config.optimizer.grad_clip = 1.0
    config.optimizer.ema_decay = 0.99
    config.train.batch_size = 8
    config.train.epochs = 10.0
    if variant == "small":
        config.model.options.width = 16
    elif variant == "binary":
        config.data.options.task = "binary"
    elif variant == "pretrained":
        config.model.name = "unet"
        config.model.options.encoder = "efficientnet_lite0"
        config.model.pretrained = "imagenet"
    elif variant:
        raise ValueError(f"variant {variant!r}: the variants are 'small', 'binary' and 'pretrained'")
    return config
