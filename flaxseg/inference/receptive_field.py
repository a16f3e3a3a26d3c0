"""The receptive field of a network, exactly: how far a tile's border affects the logits within the tile."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flaxseg.errors import FlaxsegError
from flaxseg.inference import patterns
from flaxseg.inference.dependence import Cause, Dependence, unmarked
from flaxseg.inference.influence import trace
from flaxseg.models.protocol import SegmentationModel, Variables
from flaxseg.ops import plain_forms


class NotLocal(FlaxsegError):
    """The logits of a pixel depend on the whole image or on its size; the message names the layer.

    Attributes:
      layer: the path of the module, such as `EncoderDecoder/encoder/block3/squeeze`; "" where it is not known.
    """

    def __init__(self, message: str, *, layer: str = "") -> None:
        super().__init__(message)
        self.layer = layer


class Locality(NamedTuple):
    """How a network's logits depend on its image."""

    halo: int
    """Pixels from a tile's border within which logits can differ from those of the whole image; see `exact_halo`."""
    stride: int
    """Tiles have to begin at multiples of this number of pixels."""


def exact_halo(model: SegmentationModel, variables: Variables, channels: int) -> int:
    """Returns the halo of a network: the logits of a tile are exact but for so many pixels from each inner border.

    The halo is found by tracing the program of the network, not from its architecture's description. See `locality`.

    Args:
      model: the network.
      variables: its variables; only their shapes are used, so `jax.ShapeDtypeStruct`s do.
      channels: the number of channels of images.

    Returns:
      Pixels, a multiple of the network's stride.

    Raises:
      NotLocal: the logits depend on the whole image or on its size.
    """
    return locality(model, variables, channels).halo


def locality(model: SegmentationModel, variables: Variables, channels: int) -> Locality:
    """Returns the halo and the stride of a network.

    The program of the network is traced with one row of pixels marked, for each phase of the stride, and every
    operation marks the elements of its results that depend on a marked element; likewise for columns. What is marked
    at the end is the exact range of a row's influence on the logits, independent of the values of parameters and
    pixels. See `exact_halo`.
    """
    stride = int(getattr(model, "stride", 1))
    single: list[Locality | None] = []
    for size in SIZES:
        # A single line is enough to find out that a network is not local, and takes little memory.
        found = _measure(model, variables, (2, size, size, channels), stride)
        if isinstance(found, Cause):
            if found.on_position or found.operation not in GRADUAL:
                raise _not_local(found)
            found = None
        single.append(found)
    if single[-1] is not None:
        for size, result in zip(SIZES, single, strict=True):
            # In small images, dilated convolutions can reach beyond the border unseen: the largest image decides.
            if result == single[-1]:
                phases = 2 * max(stride, MIN_PHASES)
                found = _measure(model, variables, (2 * phases, size, size, channels), stride)
                if isinstance(found, Locality):
                    return found
    raise NotLocal(f"the network's receptive field exceeds {SIZES[-1] // 2} pixels; use BlendTiling")


SIZES = (256, 1024, 4096)
"""Height and width of the images that are traced; the smallest that a receptive field fits is traced in full."""

GRADUAL = frozenset(
    {
        "conv_general_dilated",
        "reduce_window_sum",
        "reduce_window_max",
        "reduce_window_min",
        "add",
        "max",
        "min",
        "sub",
        "mul",
        "div",
        "select_n",
        "concatenate",
        "slice",
    }
)
"""Operations that reach a little further each time, so that enough of them cover any image."""


def _not_local(cause: Cause) -> NotLocal:
    layer = _module_path(cause.layer) or "the network"
    if cause.on_position:
        problem = (
            f"{cause.operation} applies weights that depend on the position within the image and on its size, as "
            "resizing with align_corners does"
        )
    elif cause.operation in WHOLE_IMAGE:
        problem = f"{cause.operation} covers the whole image, as {WHOLE_IMAGE[cause.operation]}"
    else:
        problem = f"it is not known which pixels {cause.operation} depends on"
    return NotLocal(
        f"{layer}: {problem}, so that tiles cannot give the logits of the whole image; use BlendTiling",
        layer=_module_path(cause.layer),
    )


def _module_path(name_stack: str) -> str:
    """Returns the path without what is no module, such as the names of methods, transformations and einsums."""
    return "/".join(part for part in name_stack.split("/") if part.isidentifier())


WHOLE_IMAGE = {
    "reduce_sum": "global pooling and normalization over pixels do",
    "reduce_max": "global pooling and the softmax of attention do",
    "dot_general": "attention does",
    "cumsum": "cumulative sums do",
    "sort": "sorting does",
}
"""Operations that depend on all elements along an axis, and where they occur."""


def _measure(
    model: SegmentationModel, variables: Variables, shape: tuple[int, ...], stride: int
) -> Locality | Cause | None:
    """Returns the locality, why there is none, or None if the image is too small to tell."""
    count, size = shape[0] // 2, shape[1]
    program = _program(model, variables, shape)
    parameters = [unmarked(x.shape) for x in jax.tree.leaves(variables)]
    reaches = []
    for axis in (1, 2):
        out = trace(program, [*parameters, _marked_lines(shape, axis)])[0]
        if out.cause:
            return out.cause
        reaches.append(_reach(out, axis, size))
    before, after = np.max(reaches, 0)
    # A dilated convolution can leap over the border; that it leaps over half of the image is excluded.
    if max(before.max(), after.max()) > size // 2:
        return None
    period = int(np.lcm.reduce([stride, *(_period(reach) for pair in reaches for reach in pair)]))
    # A tile's borders are at multiples of the stride. A line just outside of it counts in full; one that is further
    # away reaches less far into the tile.
    at = np.arange(count)
    halo = max((before - (size - count + at) % period).max(), (after - (-1 - at) % period).max(), 0)
    return Locality(-(-int(halo) // period) * period, period)


MIN_PHASES = 32
"""The largest stride that is recognized in a model without an attribute `stride`."""


def _program(model: SegmentationModel, variables: Variables, shape: tuple[int, ...]) -> ClosedJaxpr:
    avals = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    # The forms for the CPU depend on the same pixels, in more operations.
    with plain_forms():
        make = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))
        return make(avals, jax.ShapeDtypeStruct(shape, jnp.float32))


def _marked_lines(shape: tuple[int, ...], axis: int) -> Dependence:
    """Returns images with one row (axis 1) or column (axis 2) marked each: the first ones, then the last ones."""
    count, size = shape[0] // 2, shape[axis]
    lines = np.zeros((2 * count, size), bool)
    lines[np.arange(2 * count), [*range(count), *range(size - count, size)]] = True
    return Dependence(shape, patterns.broadcast(lines, 4, (0, axis)), patterns.uniform(True, 4))


def _reach(out: Dependence, axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far the logits are marked before each of the last lines and after each of the first ones."""
    others = tuple(i for i in range(4) if i not in (0, axis))
    lines = patterns.expand(patterns.any_along(out.marked, others), (out.shape[0], size), (0, 1))
    first, last = np.split(lines, 2)
    at, positions = np.arange(len(first)), np.arange(size)
    before = np.where(last, size - len(last) + at[:, None] - positions, 0).max(1)
    after = np.where(first, positions - at[:, None], 0).max(1)
    return before, after


def _period(reach: np.ndarray) -> int:
    """Returns the number of lines after which the reach repeats."""
    return next((n for n in range(1, len(reach) // 2 + 1) if (reach[n:] == reach[:-n]).all()), len(reach))
