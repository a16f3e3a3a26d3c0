"""Fills in the network of a configuration whose initial weights are those of a public network."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.groups import Group
from flaxseg.config.schema import default_config
from flaxseg.errors import ConfigError, shown
from flaxseg.inference.description import read_description
from flaxseg.models import MODELS
from flaxseg.models.pretrained.public_source import PublicNetwork, is_public, network_options, open_public
from flaxseg.models.pretrained.repository import OWN_DESCRIPTION, Repository, check_names_no_code
from flaxseg.registry import option_names

FREE = ("dropout", "auxiliary_head", "auxiliary_channels", "image_classes", "mean", "std")
"""Options that may differ from those of the public network: its weights fit in any case."""

Public = PublicNetwork | Repository


def with_public_network(config: ConfigDict) -> tuple[ConfigDict, Public | None]:
    """Returns a configuration with the name and the options of the public network that it starts from.

    Args:
      config: a configuration. It is returned as it is if `model.pretrained` names no public network, and otherwise
        copied.

    Returns:
      The configuration; and the public network, or None.

    Raises:
      ConfigError: `model.name` or an option in `model.options` contradicts the public network.
      WeightsError: the public network cannot be opened.
    """
    source = config.model.pretrained
    if not isinstance(source, str) or not source or not is_public(source):
        return config, None
    found = open_public(source, accept_license=bool(config.model.accept_license))
    name, options = _network(found)
    filled = config.copy_and_resolve_references()
    filled.model.name = _name(config, name, found.name)
    given = config.model.options.to_dict() if isinstance(config.model.options, ConfigDict) else {}
    messages = [
        f"  config.model.options.{key} = {shown(given[key])}: the network of {found.name} has {shown(value)}; leave "
        "it out"
        for key, value in options.items()
        if key in given and key not in FREE and _plain(given[key]) != _plain(value)
    ]
    if messages:
        raise ConfigError("options that contradict config.model.pretrained:\n" + "\n".join(messages))
    filled.model.options = Group({**options, **given})
    return filled, found


def _network(found: Public) -> tuple[str, Mapping[str, Any]]:
    """Returns the name and the options of a public network."""
    if isinstance(found, PublicNetwork):
        return found.layout.name, network_options(found)
    path = found.find(OWN_DESCRIPTION)
    assert path is not None
    described = read_description(path)
    check_names_no_code(described.name, found.name)
    if described.name not in MODELS:
        raise ConfigError(f"config.model.pretrained: the network of {found.name} is unknown: {described.name!r}")
    return described.name, {**described.options, "mean": described.mean, "std": described.std}


def _name(config: ConfigDict, name: str, source: str) -> str:
    """Returns the name of the public network.

    Raises:
      ConfigError: the configuration gives another name, or options that only another network has.
    """
    given = config.model.name
    others = [key for key in config.model.options if key not in option_names(MODELS[name])]
    if given != name and (given != default_config().model.name or others):
        raise ConfigError(
            f"config.model.name = {given!r}: contradicts config.model.pretrained, because the network of {source} is "
            f"{name!r}; give --config.model.name={name} and no other options (--config.model.options={{}})"
        )
    return name


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value
