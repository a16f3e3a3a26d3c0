"""An architecture: a decoder that can be combined with any encoder."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from flaxseg.errors import POSITIVE, ArgumentError, check_boolean, check_integer
from flaxseg.models.arguments import NormalizationValues, channel_values, check_dtype
from flaxseg.models.decoders.decoder import GIVEN_FIELDS, Decoder
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.encoders import ENCODERS, look_up_encoder, make_encoder
from flaxseg.models.option_names import names_checked
from flaxseg.registry import Option, argument_options, field_options


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A row of MODELS: a decoder, and the defaults of the architecture. Calling it returns a network.

    Attributes:
      decoder: the decoder's class, whose fields are the architecture's own options.
      encoder: name of the default encoder.
      encoder_depth: default number of times that the encoder halves the image.
      output_strides: the output strides that the architecture supports, the default first.
      head_kernel_size: kernel size of the convolution that computes the logits; 0: the decoder computes them itself.
      auxiliary_channels: default number of inner channels of an auxiliary head on the encoder's second-to-last feature;
        0: there is no such head.
      align_corners: default of the argument of this name.
    """

    decoder: type[Decoder]
    encoder: str = "resnet34"
    encoder_depth: int = 5
    output_strides: tuple[int, ...] = (32,)
    head_kernel_size: int = 3
    auxiliary_channels: int = 0
    align_corners: bool = True

    @names_checked
    def __call__(
        self,
        *,
        num_classes: int,
        encoder: str | None = None,
        encoder_depth: int | None = None,
        output_stride: int | None = None,
        mean: NormalizationValues = None,
        std: NormalizationValues = None,
        dtype: Any = jnp.float32,
        auxiliary_head: bool = False,
        auxiliary_channels: int | None = None,
        image_classes: int = 0,
        align_corners: bool | None = None,
        encoder_epsilon: float | None = None,
        late_dilation: bool | None = None,
        **decoder_options: Any,
    ) -> EncoderDecoder:
        """Returns a network of an encoder, this architecture's decoder, and a head.

        Args:
          num_classes: number of classes, the channels of the logits.
          encoder: the name of an encoder, which `flaxseg models` lists; None: the architecture's default.
          encoder_depth: number of times that the encoder halves the image (or would, without dilation); None: the
            architecture's default.
          output_stride: the encoder's smallest features are at 1 / output_stride of the image's size; strides of less
            than 32 need an encoder that can be dilated; None: the architecture's default.
          mean: mean that is subtracted from images with values 0..255: one number, or one per channel; None: the mean
            that the encoder's public weights expect.
          std: standard deviation that the result is divided by: one number, or one per channel; None: the standard
            deviation that the encoder's public weights expect.
          dtype: float32 or bfloat16, the data type of the computation; parameters, statistics and logits are float32.
          auxiliary_head: add auxiliary heads, whose logits the loss of a training step can include.
          auxiliary_channels: inner channels of the auxiliary head; None: the architecture's default.
          image_classes: number of classes of a head that classifies whole images; 0: no such head.
          align_corners: logits are resized to the image's size so that the centers of the corner pixels stay where they
            are, as in segmentation_models_pytorch; False: the corners of the corner pixels, as in transformers; None:
            the architecture's default.
          encoder_epsilon: added to the variance in the layer normalizations of a Mix Transformer, BEiT or a vision
            transformer; None: the value that the encoder's public weights expect.
          late_dilation: where a stage of a ResNet or a MobileNetV3 is dilated instead of strided, its first block keeps
            the dilation of the previous stage; None: as in the source of the encoder's public weights.
          **decoder_options: the fields of the decoder.

        Raises:
          ArgumentError: an argument is out of range, unknown, or not supported by the architecture or the encoder.
        """
        check_integer("num_classes", num_classes, 1)
        check_integer("image_classes", image_classes, 0)
        check_dtype("dtype", dtype)
        aligned = self.align_corners if align_corners is None else align_corners
        check_boolean("align_corners", aligned)
        inner_channels = self._check_auxiliary(auxiliary_head, auxiliary_channels)
        name = self.encoder if encoder is None else encoder
        entry = look_up_encoder(name)
        depth = self.encoder_depth if encoder_depth is None else encoder_depth
        stride = self._check_output_stride(output_stride, name)
        module: Any = make_encoder(name, depth=depth, output_stride=stride, dtype=dtype)
        if encoder_epsilon is not None:
            POSITIVE.check("encoder_epsilon", encoder_epsilon)
            module = _replaced(module, name, "encoder_epsilon", epsilon=encoder_epsilon)
        if late_dilation is not None:
            check_boolean("late_dilation", late_dilation)
            module = _replaced(module, name, "late_dilation", dilates_late=late_dilation)
        given = {
            "num_classes": num_classes,
            "auxiliary_head": auxiliary_head,
            "unpooled_features": entry.unpooled_features,
            "patch_features": bool(entry.patch),
            "dtype": dtype,
        }
        decoder = self._make_decoder(decoder_options, given)
        pyramid_stride = 0
        if entry.patch:
            self._check_patches(output_stride, name)
            module = decoder.adapt(module)
            pyramid_stride = 0 if decoder.takes_patches else min(stride, 2**depth)
        # A pyramid has no feature at 1/2 of the image's size.
        decoder.check(name, (0, *module.channels) if pyramid_stride else module.channels)
        return EncoderDecoder(
            num_classes=num_classes,
            encoder_name=name,
            encoder=module,
            decoder=decoder,
            mean=channel_values("mean", entry.mean if mean is None else mean),
            std=channel_values("std", entry.std if std is None else std, positive=True),
            dtype=dtype,
            head_kernel_size=self.head_kernel_size,
            auxiliary_head=auxiliary_head,
            auxiliary_channels=inner_channels if auxiliary_head else 0,
            image_classes=image_classes,
            align_corners=aligned,
            pyramid_stride=pyramid_stride,
        )

    def options(self) -> list[Option]:
        """Returns the options of the architecture: the arguments that it supports, then the fields of its decoder."""
        unsupported = set()
        if len(self.output_strides) == 1:
            unsupported.add("output_stride")
        if not self.has_auxiliary_head:
            unsupported.add("auxiliary_head")
        if not self.auxiliary_channels:
            unsupported.add("auxiliary_channels")
        defaults = {
            "encoder": self.encoder,
            "encoder_depth": self.encoder_depth,
            "output_stride": self.output_strides[0],
            "auxiliary_channels": self.auxiliary_channels,
            "align_corners": self.align_corners,
        }
        common = [
            dataclasses.replace(option, default=defaults.get(option.name, option.default))
            for option in argument_options(type(self).__call__)
            if option.name not in unsupported
        ]
        return common + self._decoder_options()

    @property
    def has_auxiliary_head(self) -> bool:
        """Whether the architecture supports `auxiliary_head`."""
        return self.auxiliary_channels > 0 or "auxiliary_head" in self._decoder_fields()

    def _decoder_fields(self) -> set[str]:
        return {field.name for field in dataclasses.fields(self.decoder)}

    def _decoder_options(self) -> list[Option]:
        return [option for option in field_options(self.decoder) if option.name not in GIVEN_FIELDS]

    def _make_decoder(self, options: Mapping[str, Any], given: Mapping[str, Any]) -> Decoder:
        # Flax modules have to be hashable.
        hashable = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        set_here = {name: value for name, value in given.items() if name in self._decoder_fields()}
        make: Callable[..., Decoder] = self.decoder
        return make(**hashable, **set_here)

    def _check_output_stride(self, value: int | None, encoder: str) -> int:
        """Returns the output stride, the default where it is None."""
        stride = self.output_strides[0] if value is None else value
        allowed = sorted(self.output_strides)
        choices = ", ".join(map(str, allowed))
        if not isinstance(stride, int) or stride not in allowed:
            raise ArgumentError("output_stride", stride, f"this architecture supports {choices}")
        supported = ENCODERS[encoder].output_strides
        if stride in supported:
            return stride
        common = [f"output_stride = {other}, or " for other in allowed if other in supported]
        fitting = [name for name, entry in ENCODERS.items() if stride in entry.output_strides]
        raise ArgumentError(
            "output_stride",
            stride,
            f"encoder {encoder} cannot be dilated to it; this architecture supports {choices}. "
            f"Set {''.join(common)}encoder to one of {', '.join(fitting)}",
        )

    def _check_patches(self, output_stride: int | None, encoder: str) -> None:
        """Refuses an output stride for the features of a vision transformer that are not made into a pyramid."""
        if self.decoder.takes_patches and output_stride not in (None, self.output_strides[0]):
            raise ArgumentError(
                "output_stride",
                output_stride,
                f"the features of the vision transformer {encoder} are at 1/{ENCODERS[encoder].patch} of the image's "
                "size; leave it out",
            )

    def _check_auxiliary(self, head: bool, channels: int | None) -> int:
        """Returns the inner channels of the auxiliary head on the encoder's second-to-last feature."""
        check_boolean("auxiliary_head", head)
        if head and not self.has_auxiliary_head:
            raise ArgumentError("auxiliary_head", head, "this architecture has no auxiliary head; leave it out")
        if channels is None:
            return self.auxiliary_channels
        if not self.auxiliary_channels:
            raise ArgumentError(
                "auxiliary_channels", channels, "this architecture has no such inner channels; leave it out"
            )
        check_integer("auxiliary_channels", channels, 1)
        return channels


def _replaced(encoder: Any, name: str, argument: str, **attribute: Any) -> Any:
    """Returns an encoder with another value of an attribute that not all encoders have."""
    for key, value in attribute.items():
        if not hasattr(encoder, key):
            raise ArgumentError(argument, value, f"encoder {name} has no such option; leave it out")
    return dataclasses.replace(encoder, **attribute)
