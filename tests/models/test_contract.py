"""The contract of a network of one's own: each violation is named."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flaxseg import build_model
from flaxseg.config.files import load_config
from flaxseg.errors import ArgumentError, ConfigError
from flaxseg.models import check_contract, plain_unet
from flaxseg.train.build import build_model_part


class Fine(nn.Module):
    """A network that keeps the contract, with all that it allows."""

    num_classes: int = 3
    dtype: Any = jnp.float32
    mean: Any = 127.5
    std: Any = (50.0, 60.0, 70.0)

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(2, (3, 3))(x))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        head = nn.Conv(self.num_classes, (1, 1))
        if train:
            self.variable("auxiliary", "logits", lambda: None).value = head(x)
        return self.finish(head(x), train)

    def finish(self, logits, train):
        return logits


class Strided(Fine):
    def finish(self, logits, train):
        return logits[:, ::2, ::2]


class HalfPrecision(Fine):
    def finish(self, logits, train):
        return logits.astype(jnp.bfloat16)


class PairInTraining(Fine):
    def finish(self, logits, train):
        return (logits, logits) if train else logits


class OtherKey(Fine):
    def finish(self, logits, train):
        return logits + jax.random.normal(self.make_rng("noise"), logits.shape) if train else logits


class OtherCollection(Fine):
    def finish(self, logits, train):
        return logits + self.variable("memory", "offset", jnp.zeros, ()).value


class WithoutParameters(Fine):
    @nn.compact
    def __call__(self, x, *, train):
        return jnp.repeat(x[..., :1], self.num_classes, -1)


class CoarseAuxiliary(Fine):
    def finish(self, logits, train):
        if train:
            self.variable("auxiliary", "coarse", lambda: None).value = logits[:, ::4, ::4]
        return logits


class WithoutTrain(Fine):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(self.num_classes, (1, 1))(x)


@dataclasses.dataclass
class Unhashable:
    """Not a Flax module, which freezes the lists in its fields."""

    num_classes: int = 3
    mean: float = 0.0
    std: float = 1.0

    def init(self, *args, **kwargs): ...

    def apply(self, *args, **kwargs): ...


def test_a_network_that_keeps_the_contract_passes():
    check_contract(Fine(), num_classes=3)
    check_contract(plain_unet(num_classes=2, width=2, depth=1), num_classes=2, image_shape=(6, 7, 1))


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (None, "has no num_classes; a network has num_classes, mean, std, init and apply"),
        (nn.Conv(3, (1, 1)), "model = 'Conv': has no num_classes"),
        (Fine(num_classes=2), "num_classes is 2; it must be the given 3"),
        (Fine(std=0.0), "std = 0.0: must be above 0"),
        (Fine(mean=float("nan")), "mean = nan: must be a finite number"),
        (Unhashable(), "cannot be hashed (unhashable type: 'Unhashable'), which jax.jit requires"),
        (WithoutTrain(), "init(key, image, train=False) fails for an image [1, 64, 64, 3]: TypeError: "),
        (WithoutParameters(), "has no parameters; variables must be 'params', and 'batch_stats'"),
        (OtherCollection(), "has variables of the collection 'memory'; variables must be 'params'"),
        (Strided(), "returns float32[1, 32, 32, 3]; a network has to return logits float32[1, 64, 64, 3]"),
        (HalfPrecision(), "returns bfloat16[1, 64, 64, 3]; a network has to return logits float32[1, 64, 64, 3]"),
        (PairInTraining(), "rngs={'dropout': key}) returns a tuple; a network has to return logits"),
        (OtherKey(), "train=True, mutable=['batch_stats', 'auxiliary'], rngs={'dropout': key}) fails for an image"),
        (CoarseAuxiliary(), "a head in the collection 'auxiliary' returns float32[1, 16, 16, 3]"),
    ],
)
def test_a_violation_is_named(model, problem):
    with pytest.raises(ArgumentError) as caught:
        check_contract(model, num_classes=3)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"model = {type(model).__name__!r}: ")


def with_fixed_arguments(*, num_classes):
    return Fine(num_classes)


def strided(*, num_classes, dtype):
    return Strided(num_classes)


def test_a_function_that_takes_other_arguments_is_named():
    with pytest.raises(ArgumentError, match=r"name = '.*:with_fixed_arguments': cannot be called with the keywords "):
        build_model(f"{__name__}:with_fixed_arguments", num_classes=2, dtype=jnp.float32)


def test_a_run_names_the_key_of_a_network_that_violates_the_contract():
    config = load_config("shapes:tiny", [f"model.name={__name__}:strided", "model.options={}"])
    with pytest.raises(ConfigError, match=r"config.model.name = '.*:strided': apply.* returns float32\[1, 16, 16, 5\]"):
        build_model_part(config, 5, 3)
