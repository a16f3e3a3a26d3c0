"""The computation of an ensemble's logits on the local devices."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxseg.deploy.members import make_ensemble
from flaxseg.deploy.saved import SavedModel
from flaxseg.inference.ensemble import ensemble_logits
from flaxseg.inference.folding import fold_batch_norm
from flaxseg.inference.tta import TTA
from flaxseg.ops.platform import compiler_options


class Computation:
    """Computes logits; the weights are sent to the devices when they are first used.

    Args:
      members: the networks and their weights.
      tta: the copies of an image whose probabilities are averaged.
    """

    def __init__(self, members: Sequence[SavedModel], tta: TTA) -> None:
        self.ensemble, self._host_variables = make_ensemble(members, tta)
        self._logits = jax.jit(ensemble_logits, static_argnames="ensemble", compiler_options=compiler_options())

    def __call__(self, image: Any, extent: Any = None, *, maps: Sequence[str] = ()) -> jax.Array:
        """Returns the logits float32[B, H, W, K] of images [B, H, W, C]; see `ensemble_logits`.

        Images whose number is a multiple of the number of local devices are spread over these.

        Args:
          image: [B, H, W, C] with values 0..255.
          extent: int32[B, 2], the height and width of each image in the upper left; None if images fill the arrays.
          maps: with "disagreement" among them, it becomes a further channel.
        """
        ensemble = dataclasses.replace(self.ensemble, with_disagreement="disagreement" in maps)
        devices = jax.local_devices()
        if len(devices) == 1 or len(image) % len(devices):
            return self._logits(self._variables, image, extent, ensemble=ensemble)
        image, extent = jax.device_put((image, extent), NamedSharding(_mesh(), PartitionSpec("data")))
        return self._logits(self._replicated, image, extent, ensemble=ensemble)

    def compile(self, image: jax.ShapeDtypeStruct) -> Any:
        """Returns the compiled program for images of a shape."""
        return self._logits.lower(self._variables, image, None, ensemble=self.ensemble).compile()

    @functools.cached_property
    def _variables(self) -> Any:
        """The variables on the first device."""
        return jax.device_put(self._host_variables)

    @functools.cached_property
    def _replicated(self) -> Any:
        """The variables on each local device."""
        return jax.device_put(self._host_variables, NamedSharding(_mesh(), PartitionSpec()))


def folded(member: SavedModel) -> SavedModel:
    """Returns a network whose batch normalization is folded into its convolutions."""
    model, variables = fold_batch_norm(member.model, member.variables, member.description.channels)
    return dataclasses.replace(member, model=model, variables=variables)


def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.local_devices()), ("data",))
