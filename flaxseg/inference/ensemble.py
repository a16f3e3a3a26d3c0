"""Several networks, or several copies of an image, as one function of logits."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.inference.forward import padded_logits
from flaxseg.inference.tta import NO_TTA, TTA, tta_probabilities
from flaxseg.inference.uncertainty import disagreement
from flaxseg.models.protocol import SegmentationModel, Variables


@dataclasses.dataclass(frozen=True)
class Member:
    """A network of an ensemble.

    Attributes:
      model: the network.
      temperature: what its logits are divided by before the softmax; see `uncertainty.fit_temperature`.
      count: the number of members of this architecture, whose variables are stacked and which are run by `jax.vmap`.
    """

    model: SegmentationModel
    temperature: float = 1.0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Networks whose probabilities are averaged, each over the copies of test-time augmentation.

    Attributes:
      members: the networks.
      tta: the copies of an image that each of them predicts.
      with_disagreement: return the disagreement of the networks as a last channel.
    """

    members: tuple[Member, ...]
    tta: TTA = NO_TTA
    with_disagreement: bool = False

    @property
    def is_single(self) -> bool:
        """Whether a network's own logits are returned, rather than logarithms of averaged probabilities."""
        return len(self.members) == 1 and self.members[0].count == 1 and self.tta.is_identity


def ensemble_logits(
    variables: Sequence[Variables], image: jax.Array, extent: jax.Array | None, *, ensemble: Ensemble
) -> jax.Array:
    """Returns the logits of an ensemble; pure, and to be jitted with `ensemble` fixed.

    These are the logits of a single network unchanged. Otherwise they are the logarithms of the averaged
    probabilities, whose softmax is these probabilities, so that they can be resized, blended and scored like logits.

    Args:
      variables: for each member of the ensemble its `params` and `batch_stats`, stacked along a first axis where its
        `count` is above 1.
      image: [B, H, W, C] with values 0..255.
      extent: int32[B, 2], the height and width of each image; see `padded_logits`.
      ensemble: the networks.

    Returns:
      float32[B, H, W, K], or [B, H, W, K + 1] `with_disagreement`, in nats.
    """
    if ensemble.is_single:
        (member,) = ensemble.members
        logits = padded_logits(variables[0], image, extent, model=member.model)
        none = jnp.zeros((*logits.shape[:3], 1), jnp.float32)
        return jnp.concatenate([logits, none], -1) if ensemble.with_disagreement else logits
    members = zip(ensemble.members, variables, strict=True)
    found = jnp.concatenate([_probabilities(member, each, image, extent, ensemble.tta) for member, each in members])
    # Zeros, which underflow leaves where a network is certain, would become infinite.
    logits = jnp.log(jnp.maximum(found.mean(0), np.finfo(np.float32).tiny))
    if ensemble.with_disagreement:
        logits = jnp.concatenate([logits, disagreement(found)[..., None]], -1)
    return logits


def _probabilities(
    member: Member, variables: Variables, image: jax.Array, extent: jax.Array | None, tta: TTA
) -> jax.Array:
    """Returns the probabilities of each network of one architecture, float32[count, B, H, W, K]."""

    def one(own: Variables) -> jax.Array:
        network = functools.partial(_tempered_logits, own, member=member)
        return tta_probabilities(network, image, extent, tta=tta)

    return one(variables)[None] if member.count == 1 else jax.vmap(one)(variables)


def _tempered_logits(variables: Variables, image: jax.Array, extent: jax.Array | None, *, member: Member) -> jax.Array:
    return padded_logits(variables, image, extent, model=member.model) / member.temperature
