"""U-Net on Oxford-IIIT Pet (3,680 training pictures; classes pet, background, border).

    python -m flaxseg.main --config=configs/pet.py --config.data.dir=DIR

DIR is a tfds folder (prepared there on first use), or the dataset's own folders images/ and annotations/.
Variants: `small` for a CPU, `binary` for pet against background, `pretrained` with an EfficientNet-Lite0 of ImageNet
as encoder (public weights, fetched once; or a file of them by --config.model.pretrained=FILE). The others start from
scratch.

The scores are of the test split, as the field reports them, and so is the choice of the best checkpoint. To choose
on pictures held back from training, set data.train_split=train[:90%] and data.eval_split=train[90%:] (of a tfds
folder; the lists of the original folders are the splits there are).

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
        config.model.options.encoder = "efficientnet_lite0"
        config.model.pretrained = "imagenet"
    elif variant:
        raise ValueError(f"variant {variant!r}: there are 'small', 'binary' and 'pretrained'")
    return config
