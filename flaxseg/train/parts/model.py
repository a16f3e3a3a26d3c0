"""The network of a run."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from flaxseg.config.validate import config_key
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ConfigError
from flaxseg.inference.description import ModelDescription, installed_versions, resolved_options
from flaxseg.inference.forward import inference_logits
from flaxseg.models import MODELS, build_model, check_contract
from flaxseg.models.arguments import plain_channel_values
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.freezing import freeze
from flaxseg.models.pretrained.encoder_weights import PUBLIC, encoder_license
from flaxseg.models.pretrained.hub import PREFIX
from flaxseg.models.protocol import SegmentationModel, Variables
from flaxseg.models.rematerialization import rematerialize
from flaxseg.optimizers import freezing
from flaxseg.optimizers.groups import IsFrozen, encoder_layers
from flaxseg.train.parts.public_model import Public
from flaxseg.train.step import initial_variables


@dataclasses.dataclass(frozen=True)
class PretrainedWeights:
    """The source of a new run's initial weights; see `state.load_weights`.

    Attributes:
      source: "imagenet", a weights file, or the directory of a run or checkpoint.
      sha256: the expected SHA-256 of the file, or its first digits; "": not checked.
      partial: load the arrays that fit, and initialize the others.
      accept_license: accept a license of public weights that is non-commercial or custom.
      published: the name of a public network with its commit; "" for other weights.
      origin: what the run records as the origin of the weights of a public network, or of an encoder's public weights.
      license: the license of these weights; "" for others.
    """

    source: str
    sha256: str
    partial: bool
    accept_license: bool = False
    published: str = ""
    origin: str = ""
    license: str = ""


@dataclasses.dataclass(frozen=True)
class ModelPart:
    """The network of a run.

    Attributes:
      name: its name in messages.
      module: the network, without regard to frozen parameters.
      image_shape: (H, W, C) of the images that it is trained on.
      variables: the shapes of its `params` and `batch_stats`, as `jax.ShapeDtypeStruct`.
      encoder_layers: the names of the encoder's modules in the order of the forward pass; empty without an encoder.
      frozen: `frozen(path)` returns whether the parameter at that path is frozen; None if none is.
      pretrained: the source of a new run's initial weights; None for random weights.
      remat: what the backward pass computes again, a name of `rematerialization.REMAT`.
    """

    name: str
    module: nn.Module
    image_shape: tuple[int, int, int]
    variables: Variables
    encoder_layers: tuple[str, ...]
    frozen: IsFrozen | None
    pretrained: PretrainedWeights | None
    remat: str = "none"

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return int(self.module.num_classes)  # type: ignore[attr-defined]

    @property
    def model(self) -> SegmentationModel:
        """The network for training, with gradients and updates of its frozen modules disabled."""
        model = rematerialize(self.module, self.remat)  # type: ignore[arg-type]
        return freeze(model, self.frozen) if self.frozen else model

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        """The shape of a batch of one image."""
        return jax.ShapeDtypeStruct((1, *self.image_shape), jnp.uint8)


def build_model_part(config: ConfigDict, num_classes: int, channels: int, *, public: Public | None = None) -> ModelPart:
    """Returns the network of a valid configuration, after checking its output shape; needs no data.

    Args:
      config: its sections `model`, `train`, `data.image_size` and `optimizer.freeze` are read.
      num_classes: number of classes.
      channels: number of channels of the images.
      public: the public network that the configuration starts from, from `with_public_network`.

    Raises:
      ConfigError: options that do not fit the images, or a network of the user's that violates `check_contract`.
    """
    image_shape = (*config.data.image_size, channels)
    with config_key("model", others="options", name="name", model="name"):
        module = build_model(
            config.model.name, num_classes=num_classes, dtype=jnp.dtype(config.train.precision), **config.model.options
        )
        if config.model.name not in MODELS:
            check_contract(module, num_classes=num_classes, image_shape=image_shape, name=config.model.name)
    with config_key("train", policy="remat"):
        rematerialize(module, config.train.remat)
    variables, layers = _trace(module, config.model.name, image_shape, num_classes)
    given = config.model
    return ModelPart(
        name=given.name,
        module=module,
        image_shape=image_shape,
        variables=variables,
        encoder_layers=layers,
        frozen=freezing(tuple(config.optimizer.freeze)),
        pretrained=_pretrained(given, public, module) if given.pretrained else None,
        remat=config.train.remat,
    )


def _pretrained(given: ConfigDict, public: Public | None, module: nn.Module) -> PretrainedWeights:
    weights = PretrainedWeights(
        given.pretrained, given.pretrained_sha256, given.pretrained_partial, given.accept_license
    )
    if public is not None:
        return dataclasses.replace(weights, published=public.name, origin=public.origin, license=str(public.license))
    file = ENCODERS[module.encoder_name].pretrained if isinstance(module, EncoderDecoder) else None
    if given.pretrained != PUBLIC or file is None:
        return weights
    origin = f"{PREFIX}{file.repository}@{file.revision}"
    return dataclasses.replace(weights, origin=origin, license=str(encoder_license(file)))


def describe_model(config: ConfigDict, model: ModelPart, dataset: SegmentationDataset) -> ModelDescription:
    """Returns what a run records about its network, so that its weights can be used without configuration and data.

    Args:
      config: the run's valid configuration.
      model: its network.
      dataset: a split of its data, for the names and colors of the classes.
    """
    given = json.loads(config.model.options.to_json())
    return ModelDescription(
        name=model.name,
        options=resolved_options(model.name, given),
        num_classes=model.num_classes,
        channels=model.image_shape[-1],
        image_size=model.image_shape[:2],
        class_names=dataset.class_names,
        palette=dataset.palette,
        mean=plain_channel_values(model.module.mean),
        std=plain_channel_values(model.module.std),
        resize=config.data.get("resize", "stretch"),
        scale=float(config.data.get("scale", 1.0)),
        precision=config.train.precision,
        value_range=config.data.options.get("value_range"),
        versions=installed_versions(),
        source=model.pretrained.origin if model.pretrained else "",
        license=model.pretrained.license if model.pretrained else "",
    )


def _trace(module: Any, name: str, image_shape: tuple[int, ...], num_classes: int) -> tuple[Variables, tuple[str, ...]]:
    """Returns the shapes of a network's variables, and the names of its encoder's modules in order.

    Raises:
      ConfigError: the outputs are not logits of the image's size.
    """
    layers: list[str] = []

    def predict(key: jax.Array, image: jax.Array) -> tuple[jax.Array, Variables]:
        variables = initial_variables(key, image, model=module)
        # Recorded here, because JAX sorts the keys of the dicts that a traced function returns.
        layers.extend(encoder_layers(variables["params"]))
        return inference_logits({"batch_stats": {}, **variables}, image, model=module), variables

    expected = (1, *image_shape[:2], num_classes)
    try:
        logits, variables = jax.eval_shape(
            predict, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
        )
    except Exception as error:
        raise ConfigError(
            f"config.model: {name} with these options cannot take images {list(image_shape)} (height, width, "
            f"channels): {type(error).__name__}: {str(error).strip()}"
        ) from error
    if (logits.shape, logits.dtype) != (expected, jnp.float32):
        raise ConfigError(
            f"config.model: {name} returns {logits.dtype}{list(logits.shape)} for an image {list(image_shape)}; a "
            f"network has to return logits float32{list(expected)}"
        )
    return dict(variables), tuple(layers)
