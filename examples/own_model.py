"""A network of your own, with its contract.

    python examples/own_model.py

A network is a Flax module with

- the attributes `num_classes`, and `mean` and `std`: images of 0..255 reach it as (image - mean) / std;
- `__call__(x, *, train)`, which takes float[B, H, W, C] and returns the logits, float32[B, H, W, num_classes];
- in training, the random key "dropout", and variables of the collections "params" and "batch_stats" only;
- fields that can be hashed, because jax.jit takes the module as a static argument.

A function with the keyword-only arguments `num_classes`, `dtype` and options of its own returns it. `check_contract`
says what is wrong with one, as do the commands before they train:

    PYTHONPATH=examples flaxseg train --config=shapes --config.model.name=own_model:context_net
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.config.files import load_config
from flaxseg.models import check_contract
from flaxseg.train.loop import train_and_evaluate


class ContextNet(nn.Module):
    """Convolutions of growing dilation at full resolution (after Yu and Koltun 2016, https://arxiv.org/abs/1511.07122).

    Attributes:
      num_classes: number of classes.
      width: channels.
      dropout: dropout rate before the head.
      dtype: data type of the computation; parameters are float32.
      mean: mean of the images.
      std: standard deviation of the images.
    """

    num_classes: int
    width: int = 16
    dropout: float = 0.1
    dtype: Any = jnp.float32
    mean: float = 127.5
    std: float = 127.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns the logits of normalized images."""
        for dilation in (1, 2, 4, 8):
            x = nn.Conv(self.width, (3, 3), kernel_dilation=dilation, use_bias=False, dtype=self.dtype)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Conv(self.num_classes, (1, 1), dtype=jnp.float32)(x)  # Logits are float32, whatever the dtype.


def context_net(*, num_classes: int, width: int = 16, dropout: float = 0.1, dtype: Any = jnp.float32) -> nn.Module:
    """Returns the network; its options are the keyword-only arguments."""
    return ContextNet(num_classes, width, dropout, dtype)


def main(workdir: str = "runs/own_model", steps: int = 60) -> float:
    """Checks the network, trains it on the built-in shapes, and returns the mIoU on held-out images."""
    check_contract(context_net(num_classes=5), num_classes=5)
    values: dict[str, object] = {"model.name": "own_model:context_net", "model.options": {"width": 8}}
    values |= {"loss.dice": 1.0, "optimizer.learning_rate": 1e-2, "train.steps": steps, "eval.every": steps}
    config = load_config("shapes:tiny", [f"{key}={value}" for key, value in values.items()])
    result = train_and_evaluate(config, workdir)
    print(result.table())
    return result.scores.compute()["miou"] if result.scores else 0.0


if __name__ == "__main__":
    main()
