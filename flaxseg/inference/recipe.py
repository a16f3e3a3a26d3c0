"""The name and the options with which a network was made, found again from the network itself."""

from collections.abc import Callable, Mapping
from typing import Any

from flaxseg.errors import ArgumentError
from flaxseg.models import MODELS
from flaxseg.registry import option_names

_MISSING = object()

_FOUND_IN: Mapping[str, Callable[[Any], Any]] = {
    "encoder": lambda network: network.encoder_name,
    "encoder_depth": lambda network: network.encoder.depth,
    "output_stride": lambda network: network.encoder.output_stride,
    "encoder_epsilon": lambda network: network.encoder.epsilon,
    "late_dilation": lambda network: network.encoder.dilates_late,
    "width": lambda network: network.widths[0],
    "depth": lambda network: len(network.widths) - 1,
    "max_width": lambda network: network.widths[-1],
    # 0 without an auxiliary head, which is no value of the option.
    "auxiliary_channels": lambda network: network.auxiliary_channels or _MISSING,
}
"""Where a network has the options that are not attributes of the same name."""

_ALWAYS = ("num_classes", "mean", "std", "dtype")
"""The arguments that a description has fields of their own for."""


def recipe_of(network: Any) -> tuple[str, dict[str, Any]] | None:
    """Returns the name in MODELS and the options with which `build_model` makes an equal network.

    Only options that are plain attributes of networks are found, so the result is checked: the network that it makes
    equals the one that is given.

    Args:
      network: a network without wrappers.

    Returns:
      The name and the options; None if no row of MODELS makes such a network.
    """
    for name, entry in MODELS.items():
        found = {key: _option(network, key) for key in option_names(entry) if key not in _ALWAYS}
        options = {key: value for key, value in found.items() if value is not _MISSING}
        # The output stride of a vision transformer is the size of its patches, which is no value of the option.
        without_stride = {key: value for key, value in options.items() if key != "output_stride"}
        for candidate in (options, without_stride):
            if _makes(entry, candidate, network):
                return name, candidate
    return None


def _makes(entry: Any, options: Mapping[str, Any], network: Any) -> bool:
    """Returns whether an entry of MODELS makes a network that equals a given one in every attribute."""
    names = ("num_classes", *option_names(entry))
    given = {key: getattr(network, key) for key in _ALWAYS if key in names and hasattr(network, key)}
    try:
        return bool(entry(**given, **options) == network)
    except (ArgumentError, TypeError, AttributeError, ValueError):
        return False


def _option(network: Any, name: str) -> Any:
    """Returns the value of an option of a network; _MISSING if it has none."""
    for find in (_FOUND_IN.get(name), lambda given: getattr(given, name), lambda given: getattr(given.decoder, name)):
        try:
            if find is not None:
                return find(network)
        except (AttributeError, TypeError, IndexError):
            continue
    return _MISSING
