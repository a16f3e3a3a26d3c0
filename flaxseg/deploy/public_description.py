"""Describes a public network as a run describes its own."""

import sys

from flaxseg.data.datasets.known_classes import names_of, palette_of
from flaxseg.data.masks.class_names import default_names
from flaxseg.errors import ArgumentError, WeightsError
from flaxseg.inference.description import ModelDescription, resolved_options
from flaxseg.models.pretrained.public_source import PublicNetwork

_TILE = (512, 512)
"""The size of the tiles of a network whose repository states no size of images."""


def describe_public(found: PublicNetwork) -> ModelDescription:
    """Returns the description of a public network, and prints what was ignored or assumed.

    Images are resized to the size that the repository states; without one they keep their own.

    Raises:
      WeightsError: it has more than 255 classes, or a value of a wrong type.
    """
    layout, images = found.layout, found.preprocessing
    for note in (*layout.notes, *images.notes):
        print(f"{found.name}: note: {note}", file=sys.stderr)
    names = (
        layout.class_names
        or names_of(found.dataset, layout.num_classes)
        or default_names(tuple(range(layout.num_classes)))
    )
    try:
        return ModelDescription(
            name=layout.name,
            options=resolved_options(layout.name, layout.options),
            num_classes=layout.num_classes,
            channels=layout.channels,
            image_size=images.image_size or layout.tile or _TILE,
            class_names=names,
            palette=palette_of(names),
            mean=0.0 if images.mean is None else images.mean,
            std=1.0 if images.std is None else images.std,
            resize="stretch" if images.image_size else "keep",
            source=found.origin,
            license=str(found.license),
        )
    except ArgumentError as error:
        raise WeightsError(f"{found.name}: its network cannot be described: {error}") from error
