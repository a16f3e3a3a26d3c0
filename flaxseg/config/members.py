"""The runs that a configuration trains together: their names, their configurations, and what they require."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from flaxseg.config.groups import Group
from flaxseg.errors import shown

_KEYS = ("train.seeds", "train.learning_rates", "train.loss_weights")

_LONGEST_PART = 100
"""Characters of a part of a name; file systems allow 255 bytes for all of them."""


def named_together(values: Mapping[str, Any]) -> str:
    """Returns the keys that name several runs, with their values, as text; "" for a single run.

    Args:
      values: the values of keys, by full key.
    """
    return " and ".join(f"{key} = {shown(values[key])}" for key in _KEYS if values.get(key))


def member_configs(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the configuration of each run that a valid configuration trains together, by the name of the run.

    They are all combinations of the learning rates, the loss weights and the seeds. Of each of the three that names
    none, all runs have the value of the key `optimizer.learning_rate`, `loss` or `seed`.

    A name is that of a folder, such as `seed-0` or `seed-0_learning_rate-0.003_loss-dice-0.5`. It follows from the
    values alone, so that it stays the same when others are added. Characters that are not safe in the name of a folder
    are replaced, and a hash of the original is added then.
    """
    train = config.train
    rates, losses = train.learning_rates or (None,), train.loss_weights or (None,)
    seeds = train.seeds or (config.seed,)
    found = {}
    for rate, weights, seed in itertools.product(rates, losses, seeds):
        single = config.copy_and_resolve_references()
        single.train.seeds, single.train.learning_rates, single.train.loss_weights = (), (), ()
        single.seed = seed
        parts = [f"seed-{seed}"]
        if rate is not None:
            single.optimizer.learning_rate = float(rate)
            parts.append(f"learning_rate-{_number(rate)}")
        if weights is not None:
            single.loss = Group({name: float(weight) for name, weight in weights.items()})
            single.loss_options = Group({name: each for name, each in single.loss_options.items() if name in weights})
            named = [f"{name}-{_number(weight)}" for name, weight in sorted(weights.items()) if weight]
            parts.append(_safe(f"loss-{'-'.join(named)}"))
        found["_".join(parts)] = single
    return found


def setting(name: str) -> str:
    """Returns the part of a run's name that runs of other seeds share; "" if only seeds are named."""
    return name.partition("_")[2]


def base_config(config: ConfigDict) -> ConfigDict:
    """Returns the configuration of the first run, with a weight for each loss of the others, too: 0 if it has none."""
    base = next(iter(member_configs(config).values()))
    names = {name for weights in config.train.loss_weights for name in weights}
    base.loss = Group({**dict.fromkeys(names, 0.0), **base.loss.to_dict()})
    base.loss_options = Group({name: each for name, each in config.loss_options.items() if name in base.loss})
    return base


def member_errors(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the errors of other keys with those that name several runs.

    Args:
      values: the value of every key that is valid alone.
    """
    named = named_together(values)
    if not named:
        return
    together = f"the runs of {named} are trained together"
    for axis in ("fsdp", "spatial"):
        if (size := values.get(f"mesh.{axis}", 1)) > 1:
            yield (
                f"config.mesh.{axis} = {size}: {together}, with the whole network on each device; use 1, or train each "
                "run alone"
            )
    if values.get("data.cache") == "features":
        yield (
            f"config.data.cache = 'features': {together}, and each would need features of its own; use another cache, "
            "or train each run alone"
        )
    if values.get("train.non_finite") == "rollback":
        yield (
            f"config.train.non_finite = 'rollback': {together}, and cannot return to a checkpoint one by one; use "
            "'stop' or 'skip', or train each run alone"
        )


def _number(value: float) -> str:
    """Returns the shortest text that distinguishes a number from all others."""
    return repr(float(value)).removesuffix(".0")


def _safe(part: str) -> str:
    safe = re.sub(r"[^\w.+-]", ".", part, flags=re.ASCII)[:_LONGEST_PART]
    return part if safe == part else f"{safe}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"
