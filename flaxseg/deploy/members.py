"""Networks that predict together: whether they go together, and the ensemble that they form."""

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import ArgumentError
from flaxseg.inference.ensemble import Ensemble, Member
from flaxseg.inference.tta import TTA
from flaxseg.models.protocol import Variables


def check_members(members: Sequence[SavedModel]) -> None:
    """Checks that networks take the same images and have the same classes.

    Raises:
      ArgumentError: they do not; the message names a network and what differs.
    """
    if not members:
        raise ArgumentError("path", [], "must name at least one network")
    first = members[0].description
    fields = ["class_names", "channels", "value_range", "resize", "scale" if first.resize == "keep" else "image_size"]
    for other in members[1:]:
        for field in fields:
            own, found = getattr(first, field), getattr(other.description, field)
            if found != own:
                raise ArgumentError(
                    "path",
                    other.name,
                    f"cannot be combined with {members[0].name}: its {field} is {found}, not {own}; give networks that "
                    "were trained on the same classes and sizes of images",
                )


def make_ensemble(members: Sequence[SavedModel], tta: TTA) -> tuple[Ensemble, list[Variables]]:
    """Returns the ensemble of networks, and its variables, stacked for networks of the same architecture."""
    groups: dict[str, list[SavedModel]] = {}
    for member in members:
        groups.setdefault(_architecture(member), []).append(member)
    ensemble = Ensemble(
        tuple(Member(group[0].model, group[0].description.temperature, len(group)) for group in groups.values()), tta
    )
    return ensemble, [_stacked([member.variables for member in group]) for group in groups.values()]


def _architecture(member: SavedModel) -> str:
    """Returns a text that is equal for networks that one program computes."""
    described = member.description
    names = ("name", "options", "num_classes", "channels", "mean", "std", "precision", "temperature")
    return json.dumps([getattr(described, name) for name in names], sort_keys=True, default=dict)


def _stacked(variables: Sequence[Any]) -> Variables:
    return variables[0] if len(variables) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *variables)
