"""An entry of the table of encoders: a module, its public weights, and the strides and depths it supports."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's RGB images, with values 0..255."""


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub.

    Attributes:
      repository: such as `timm/resnet18.a1_in1k`.
      revision: a commit; a branch where no commit is known.
      filename: the file's name in the repository.
      license: the license of the weights, as the hub names it, such as "apache-2.0", perhaps followed by its name and
        its address; "": see the repository.
    """

    repository: str
    revision: str
    filename: str = "model.safetensors"
    license: str = ""


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An entry of ENCODERS.

    Attributes:
      make: `make(depth=, output_stride=, dtype=)` returns the module. The module is called with `train=` on
        images [B, H, W, C] whose height and width are multiples of `output_stride`. It returns a list of `depth + 1`
        features: the image itself, then features at 1/2, 1/4, ... of its size, but never smaller than
        1 / output_stride. It has the attributes `channels` (of each feature but the image), `output_stride`, and
        `torch_names` (see `TorchNames`). The features of a vision transformer are at one stride; see `patch`.
      pretrained: the public weights; None: there are none.
      mean: mean of the images that the public weights were trained on, with values 0..255, one number per channel.
      std: standard deviation of these images, one number per channel.
      depths: allowed values of `depth`.
      output_strides: allowed values of `output_stride`.
      unpooled_features: the features are taken before each pooling, as VGG's are, and not after a stride.
      patch: height and width of the patches of a vision transformer. Its features, except for the image itself, are all
        at 1 / patch of the image's size, there are `depth - 1` of them unless the decoder chooses others (see
        `Decoder.adapt`), and `feature_pyramid` makes those of a pyramid. 0: the encoder is not a vision transformer.
      added: the name of a module that the public weights of the encoder lack, and that is then initialized; "": none.
    """

    make: Callable[..., nn.Module]
    pretrained: HubFile | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    depths: tuple[int, ...] = (3, 4, 5)
    output_strides: tuple[int, ...] = (8, 16, 32)
    unpooled_features: bool = False
    patch: int = 0
    added: str = ""


def stage_dilation(stride: int, output_stride: int) -> tuple[int, int]:
    """Returns the stride and dilation of a stage, given the output stride.

    A stage that would make features smaller than 1 / output_stride is dilated instead, which keeps the receptive
    field of its kernels (Chen et al. 2017, https://arxiv.org/abs/1706.05587).

    Args:
      stride: stride of the stage's features with respect to the image, without dilation.
      output_stride: the largest stride allowed for any feature.
    """
    return (2, 1) if stride <= output_stride else (1, stride // output_stride)
