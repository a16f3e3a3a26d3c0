"""Generated images of discs, squares and triangles on a textured background, which need no files."""

import dataclasses
import hashlib
import math

import numpy as np

from flaxseg.data.masks.palette import default_palette
from flaxseg.data.types import Example, SegmentationDataset, Source
from flaxseg.errors import NON_NEGATIVE, ArgumentError, check_choice, check_integer

_CLASS_NAMES = ("background", "disc", "square", "triangle", "border")
_BORDER = _CLASS_NAMES.index("border")
_SPLITS = {"train": 0, "val": 1, "test": 2}
_DEFAULT_COUNT = {"train": 8192, "val": 256, "test": 256}

_MIN_SIDE = 16

_CORNERS = {"square": 4, "triangle": 3}
_NORMALS = {
    _CLASS_NAMES.index(name): np.array([(math.cos(t), math.sin(t)) for t in 2 * np.pi * np.arange(n) / n], np.float32)
    for name, n in _CORNERS.items()
}
"""The outward normals of the edges of each kind of shape with corners."""

_INRADIUS = {
    _CLASS_NAMES.index("disc"): 1.0,
    _CLASS_NAMES.index("square"): math.sqrt(math.pi) / 2,
    _CLASS_NAMES.index("triangle"): math.sqrt(math.pi / (3 * math.sqrt(3))),
}
"""The inradius of each kind of shape at size 1. All kinds cover the same area, so size does not reveal the class."""


def shapes(
    split: str,
    *,
    size: tuple[int, int] = (64, 64),
    count: int = 0,
    seed: int = 0,
    max_shapes: int = 3,
    noise: float = 4.0,
) -> SegmentationDataset:
    """Returns a split of generated images with overlapping discs, squares and triangles.

    An example depends on `(seed, split, index)` alone. The class of a pixel is the kind of shape that it lies in, which
    is independent of color, size, rotation and texture. The class `border` is a line along the visible outline of each
    shape, 2.5 pixels wide at 64x64 and proportionally wide at other sizes. Generating an image of 64x64 takes about a
    millisecond.

    Args:
      split: `train`, `val` or `test`; no two splits share an example.
      size: height and width of the images, each at least 16.
      count: the number of examples of the split; 0 for 8192 (`train`) or 256 (`val`, `test`).
      seed: seed of the dataset, at least 0.
      max_shapes: the largest number of shapes in an image, at least 1; the number is drawn uniformly from 1 upward.
      noise: standard deviation of the pixel noise, in levels of 0..255.

    Returns:
      A dataset with the classes background, disc, square, triangle, border, and `image` uint8[H, W, 3].

    Raises:
      ArgumentError: an option outside its range, or an unknown split.
    """
    check_choice("split", split, _SPLITS)
    size = (int(size[0]), int(size[1]))
    if min(size) < _MIN_SIDE:
        raise ArgumentError("size", size, f"must be a height and a width of at least {_MIN_SIDE}")
    check_integer("count", count, 0)
    check_integer("seed", seed, 0)
    check_integer("max_shapes", max_shapes, 1)
    NON_NEGATIVE.check("noise", noise)
    source = ShapesSource(split, size, count or _DEFAULT_COUNT[split], seed, max_shapes, float(noise))
    return SegmentationDataset(source, len(_CLASS_NAMES), _CLASS_NAMES, default_palette(len(_CLASS_NAMES)))


@dataclasses.dataclass(frozen=True)
class ShapesSource(Source):
    """Generates the examples of `shapes`; see its arguments."""

    split: str
    size: tuple[int, int]
    count: int
    seed: int
    max_shapes: int
    noise: float

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Example:
        if not 0 <= index < self.count:
            raise IndexError(f"example {index} of {self.count} shapes")
        rng = np.random.default_rng((self.seed, _SPLITS[self.split], int(index)))
        image, label = _draw(rng, self.size, int(rng.integers(1, self.max_shapes + 1)), self.noise)
        return {"image": image, "label": label, "id": self.example_id(index)}

    def example_id(self, index: int) -> str:
        """Returns the `id` of an example; generates no image."""
        return f"shapes {self.split} {index} (seed {self.seed})"

    def digest(self) -> str:
        """Returns a digest of the options."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()


def _draw(rng: np.random.Generator, size: tuple[int, int], number: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image uint8[H, W, 3] and its label uint8[H, W], with `number` shapes painted from back to front."""
    height, width = size
    unit = min(size)
    half_border = 1.25 * unit / 64
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    kinds = rng.integers(1, _BORDER, number)
    # With independent random colors and centers, one shape in ten would be invisible on its background, and others
    # would hide each other.
    colors = _spread(rng, 30, 225, (number + 1, 6, 3))
    centers = _spread(rng, 0.15, 0.85, (number, 3, 2)) * np.array(size, np.float32)
    image = colors[0] + _texture(rng, y, x, unit)[..., None]
    label = np.zeros(size, np.uint8)
    for kind, color, center in zip(kinds.tolist(), colors[1:], centers, strict=True):
        distance = _signed_distance(rng, kind, y - center[0], x - center[1], unit)
        # The edge is blended over one pixel, as in a photograph.
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        image += cover * (color + _texture(rng, y, x, unit)[..., None] - image)
        label[distance <= half_border] = _BORDER
        label[distance <= -half_border] = kind
    image += rng.standard_normal((height, width, 3), np.float32) * np.float32(noise)
    return np.clip(image, 0, 255).astype(np.uint8), label


def _signed_distance(rng: np.random.Generator, kind: int, y: np.ndarray, x: np.ndarray, unit: int) -> np.ndarray:
    """Returns the distance in pixels to the outline of a shape of random size and rotation around the origin.

    Returns:
      float32[H, W], negative inside the shape.
    """
    size, rotation = rng.random(2, np.float32)
    inradius = (0.14 + 0.1 * size) * unit * _INRADIUS[kind]
    if kind not in _NORMALS:
        return np.sqrt(y * y + x * x) - inradius
    cos, sin = math.cos(2 * math.pi * rotation), math.sin(2 * math.pi * rotation)
    normals = _NORMALS[kind] @ np.array([[cos, sin], [-sin, cos]], np.float32)
    distance = normals[0, 0] * y + normals[0, 1] * x
    for normal_y, normal_x in normals[1:]:
        np.maximum(distance, normal_y * y + normal_x * x, out=distance)
    return distance - inradius


def _texture(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, unit: int) -> np.ndarray:
    """Returns a linear gradient plus a wave of random direction, frequency and amplitude, float32[H, W] around 0."""
    angle, pitch, phase, amplitude, shade_y, shade_x = rng.random(6, np.float32)
    frequency = 2 * math.pi * (2 + 6 * pitch) / unit
    wave_y, wave_x = frequency * math.sin(math.pi * angle), frequency * math.cos(math.pi * angle)
    wave = np.sin(wave_y * y + (wave_x * x + 2 * math.pi * phase))
    shade = (shade_y - 0.5) * (80 / y.size) * (y - y.size / 2) + (shade_x - 0.5) * (80 / x.size) * (x - x.size / 2)
    return (wave * (10 * amplitude) + shade).astype(np.float32)


def _spread(rng: np.random.Generator, low: float, high: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns random points, each of them the candidate that is farthest from all points before it.

    Args:
      rng: the random generator.
      low: the lowest coordinate.
      high: the highest coordinate.
      shape: the number of points, of candidates per point, and of coordinates.

    Returns:
      float32[points, coordinates].
    """
    candidates = rng.uniform(low, high, shape).astype(np.float32)
    chosen = candidates[:1, 0]
    for group in candidates[1:]:
        gaps = np.abs(group[:, None] - chosen[None]).sum(-1).min(-1)
        chosen = np.concatenate([chosen, group[gaps.argmax()][None]])
    return chosen
