"""Trains a small U-Net on the built-in shapes dataset, which is generated on the fly; a few minutes on a CPU.

flaxseg train --config=shapes
"""

from ml_collections import ConfigDict

from flaxseg.config.schema import default_config


def get_config(variant: str = "") -> ConfigDict:
    """Returns the configuration; the variant `tiny` only demonstrates within seconds that everything runs."""
    config = default_config()
    config.data.name = "shapes"
    config.data.image_size = (64, 64)
    config.model.options.width = 16
    config.model.options.depth = 3
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_steps = 50
    config.optimizer.ema_decay = 0.99
    config.train.batch_size = 16
    config.train.steps = 700
    config.eval.batch_size = 16
    config.eval.every = 350
    if variant == "tiny":
        config.data.image_size = (32, 32)
        config.data.options = {"size": (32, 32), "count": 16}
        config.model.options = {"width": 4, "depth": 1}
        config.optimizer.warmup_steps = 2
        config.train.steps = 6
        config.eval.every = 3
        config.log.every = 2
    elif variant:
        raise ValueError(f"variant {variant!r}: the only variant is 'tiny'")
    return config
