"""A dataset drawn on the fly: discs, squares and triangles on a textured ground. It needs no files."""

import dataclasses
import math

import numpy as np

from flaxseg.data.masks.palette import default_palette
from flaxseg.data.types import Example, SegmentationDataset
from flaxseg.errors import DataError

_CLASS_NAMES = ("background", "disc", "square", "triangle", "border")
_BORDER = _CLASS_NAMES.index("border")
_SPLITS = {"train": 0, "val": 1, "test": 2}
_DEFAULT_COUNT = {"train": 8192, "val": 256, "test": 256}

_LOWEST = {"size": 16, "max_shapes": 1}

_CORNERS = {"square": 4, "triangle": 3}
_NORMALS = {
    _CLASS_NAMES.index(name): np.array([(math.cos(t), math.sin(t)) for t in 2 * np.pi * np.arange(n) / n], np.float32)
    for name, n in _CORNERS.items()
}
"""For each kind with corners, the outward normals of its edges."""

_INRADIUS = {
    _CLASS_NAMES.index("disc"): 1.0,
    _CLASS_NAMES.index("square"): math.sqrt(math.pi) / 2,
    _CLASS_NAMES.index("triangle"): math.sqrt(math.pi / (3 * math.sqrt(3))),
}
"""Of each kind drawn at radius 1, so that all kinds cover the same area and size says nothing of the class."""


def shapes(
    split: str,
    *,
    size: tuple[int, int] = (64, 64),
    count: int = 0,
    seed: int = 0,
    max_shapes: int = 3,
    noise: float = 4.0,
) -> SegmentationDataset:
    """Pictures of overlapping discs, squares and triangles, drawn from `(seed, split, index)` alone.

    The class of a pixel is the kind of shape it lies in, whatever the color, size, rotation or texture; the class
    `border` is a line along each shape's visible outline, 2.5 pixels wide at 64x64 and in proportion elsewhere.
    A picture of 64x64 takes about a millisecond.

    Args:
      split: `train`, `val` or `test`; no two splits share an example.
      size: height and width of the pictures, each at least 16.
      count: how many examples the split has; 0 stands for 8192 (`train`) or 256 (`val`, `test`).
      seed: another seed, another dataset.
      max_shapes: a picture has 1 to this many shapes.
      noise: standard deviation of the pixel noise, in levels of 0..255.

    Returns:
      A dataset of the classes background, disc, square, triangle, border with `image` uint8[H, W, 3].

    Raises:
      DataError: an option outside of its range, or another split name.
    """
    if split not in _SPLITS:
        raise DataError(f"the dataset shapes has no split {split!r}: there are {', '.join(_SPLITS)}")
    size = (int(size[0]), int(size[1]))
    options = {"size": min(size), "count": count, "seed": seed, "max_shapes": max_shapes, "noise": noise}
    for name, value in options.items():
        low = _LOWEST.get(name, 0)
        if value < low:
            raise DataError(f"data.options.{name} of the dataset shapes is {value}: it must be at least {low}")
    source = _Shapes(split, size, count or _DEFAULT_COUNT[split], seed, max_shapes, noise)
    return SegmentationDataset(source, len(_CLASS_NAMES), _CLASS_NAMES, default_palette(len(_CLASS_NAMES)))


@dataclasses.dataclass(frozen=True)
class _Shapes:
    split: str
    size: tuple[int, int]
    count: int
    seed: int
    max_shapes: int
    noise: float

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.count:
            raise IndexError(f"example {index} of {self.count} shapes")
        rng = np.random.default_rng((self.seed, _SPLITS[self.split], int(index)))
        image, label = _draw(rng, self.size, int(rng.integers(1, self.max_shapes + 1)), self.noise)
        return {"image": image, "label": label, "id": f"shapes {self.split} {index} (seed {self.seed})"}


def _draw(rng: np.random.Generator, size: tuple[int, int], number: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8[H, W, 3] and its label uint8[H, W]: `number` shapes painted from back to front."""
    height, width = size
    unit = min(size)
    half_border = 1.25 * unit / 64
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    kinds = rng.integers(1, _BORDER, number)
    # Of plainly random colors one shape in ten would be invisible on its ground, and of places hidden by others.
    colors = _spread(rng, 30, 225, (number + 1, 6, 3))
    centers = _spread(rng, 0.15, 0.85, (number, 3, 2)) * np.array(size, np.float32)
    image = colors[0] + _texture(rng, y, x, unit)[..., None]
    label = np.zeros(size, np.uint8)
    for kind, color, center in zip(kinds.tolist(), colors[1:], centers, strict=True):
        distance = _signed_distance(rng, kind, y - center[0], x - center[1], unit)
        # The edge is blended over one pixel, as a camera would see it.
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        image += cover * (color + _texture(rng, y, x, unit)[..., None] - image)
        label[distance <= half_border] = _BORDER
        label[distance <= -half_border] = kind
    image += rng.standard_normal((height, width, 3), np.float32) * np.float32(noise)
    return np.clip(image, 0, 255).astype(np.uint8), label


def _signed_distance(rng: np.random.Generator, kind: int, y: np.ndarray, x: np.ndarray, unit: int) -> np.ndarray:
    """float32[H, W]: pixels to the outline of a shape of random size and rotation around 0, 0; negative inside."""
    size, turn = rng.random(2, np.float32)
    inradius = (0.14 + 0.1 * size) * unit * _INRADIUS[kind]
    if kind not in _NORMALS:
        return np.sqrt(y * y + x * x) - inradius
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    normals = _NORMALS[kind] @ np.array([[cos, sin], [-sin, cos]], np.float32)
    farthest = normals[0, 0] * y + normals[0, 1] * x
    for normal_y, normal_x in normals[1:]:
        np.maximum(farthest, normal_y * y + normal_x * x, out=farthest)
    return farthest - inradius


def _texture(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, unit: int) -> np.ndarray:
    """float32[H, W] around 0: a slow shade from side to side plus a wave of random direction, pitch and strength."""
    angle, pitch, phase, strength, shade_y, shade_x = rng.random(6, np.float32)
    frequency = 2 * math.pi * (2 + 6 * pitch) / unit
    wave_y, wave_x = frequency * math.sin(math.pi * angle), frequency * math.cos(math.pi * angle)
    wave = np.sin(wave_y * y + (wave_x * x + 2 * math.pi * phase))
    shade = (shade_y - 0.5) * (80 / y.size) * (y - y.size / 2) + (shade_x - 0.5) * (80 / x.size) * (x - x.size / 2)
    return (wave * (10 * strength) + shade).astype(np.float32)


def _spread(rng: np.random.Generator, low: float, high: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Random points, each the one of several candidates that lies farthest from the points before it.

    Args:
      rng: where they come from.
      low: the lowest coordinate.
      high: the highest coordinate.
      shape: how many points, candidates for each, and coordinates.

    Returns:
      float32[points, coordinates].
    """
    candidates = rng.uniform(low, high, shape).astype(np.float32)
    chosen = candidates[:1, 0]
    for group in candidates[1:]:
        gaps = np.abs(group[:, None] - chosen[None]).sum(-1).min(-1)
        chosen = np.concatenate([chosen, group[gaps.argmax()][None]])
    return chosen
