"""Features of a frozen encoder, computed once for the whole training set and kept in host memory."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.errors
import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from flaxseg.data.memory import available_memory
from flaxseg.data.types import Batch
from flaxseg.errors import ConfigError, DataError
from flaxseg.inference.forward import normalize
from flaxseg.models.encoded import EncodedImages
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.protocol import Variables
from flaxseg.train.partitioner import partition_safely
from flaxseg.train.parts.model import ModelPart
from flaxseg.train.sharding import data_mesh, place_batch, replicated
from flaxseg.train.views import Views

_MAX_FRACTION = 0.8
"""The largest fraction of the available memory that the cache may need."""

_KEY = "config.data.cache = 'features'"


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """Features and labels of all views in host memory; view v of example i is in row v * N + i.

    Attributes:
      features: [V * N, h, w, C] each; None for those that the network does not use.
      labels: uint8[V * N, H, W].
      shapes: (h, w, C) of each feature.
      count: N, the number of examples.
    """

    features: tuple[np.ndarray | None, ...]
    labels: np.ndarray
    shapes: tuple[tuple[int, ...], ...]
    count: int

    def batch(self, batch: Batch) -> Batch:
        """Returns a batch of indices, and perhaps of views, with the features and labels, copied from the cache."""
        rows = batch["index"] + batch.get("view", 0) * self.count
        features = tuple(None if each is None else each[rows] for each in self.features)
        size = self.labels.shape[1], self.labels.shape[2]
        return {**batch, "image": EncodedImages(features, self.shapes, size), "label": self.labels[rows]}


def check_frozen_encoder(model: ModelPart) -> None:
    """Checks that the features of a network's encoder are the same in every step.

    Raises:
      ConfigError: the network has no exchangeable encoder, or the encoder is not frozen, or random.
    """
    if not isinstance(model.module, EncoderDecoder):
        raise ConfigError(
            f"{_KEY}: {model.name} has no encoder whose features could be cached; use data.cache = 'host', or an "
            "architecture with the option encoder"
        )
    frozen, params = model.frozen, model.variables["params"]["encoder"]
    paths = [f"encoder/{_joined(path)}" for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    learning = [path for path in paths if not (frozen and frozen(path))]
    if learning:
        raise ConfigError(
            f"{_KEY}: the encoder's features change, because {len(learning)} of its parameters learn, such as "
            f"{learning[0]}; use optimizer.freeze = ('encoder',), or another data.cache"
        )
    network: Any = model.model
    encode = functools.partial(network.apply, train=True, mutable=["batch_stats"], method="encode")
    try:
        jax.eval_shape(encode, model.variables, jax.ShapeDtypeStruct((1, *model.image_shape), np.float32))
    except flax.errors.InvalidRngError:
        raise ConfigError(
            f"{_KEY}: the encoder's features are random, because optimizer.freeze covers its parameters, but not its "
            "modules with dropout or stochastic depth; use optimizer.freeze = ('encoder',), or another data.cache"
        ) from None


def encode_dataset(views: Views, model: ModelPart, variables: Variables, mesh: Mesh) -> FeatureCache:
    """Returns the features of a frozen encoder for a whole dataset; each process encodes it on its own devices.

    Args:
      views: the examples.
      model: the network, for which `check_frozen_encoder` has passed.
      variables: its `params` and `batch_stats`, on the devices of the mesh.
      mesh: the devices of the run.

    Raises:
      DataError: an example cannot be read, or the features do not fit into the host's memory; the message names both
        sizes.
    """
    outputs, used = _used_features(model, variables)
    kept = [each for each, is_used in zip(outputs, used, strict=True) if is_used]
    _check_memory(len(views), kept, model)
    arrays = [np.empty((len(views), *each.shape[1:]), each.dtype) for each in kept]
    labels = np.empty((len(views), *model.image_shape[:2]), np.uint8)
    with tqdm(total=len(views), desc="encode", unit="image", disable=None) as bar:
        for row, values in _encoded(views, model, variables, mesh, used):
            count = len(values[-1])
            for array, value in zip([*arrays, labels], values, strict=True):
                array[row : row + count] = value
            bar.update(count)
    remaining = iter(arrays)
    features = tuple(next(remaining) if is_used else None for is_used in used)
    return FeatureCache(features, labels, tuple(each.shape[1:] for each in outputs), views.count)


def _encoded(
    views: Views, model: ModelPart, variables: Variables, mesh: Mesh, used: tuple[bool, ...]
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yields the row of the first view of a batch with the features that are used, and the labels."""
    # As many of this process's devices as divide the batch, which must not depend on them.
    count = math.gcd(views.batch_size, len(mesh.local_devices))
    local = data_mesh(mesh.local_devices[:count])
    module = partition_safely(model.module, local)  # type: ignore[arg-type]
    encode = jax.jit(functools.partial(_encode, views=views, module=module, used=used))
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(_of_encoder(variables))
    placed = jax.device_put(jax.device_get(whole), replicated(local))
    last: tuple[int, int, list[jax.Array]] | None = None
    for view, start, batch in views.batches():
        images = place_batch({name: batch[name] for name in ("image", "label")}, local)
        found = encode(placed, images, view, start)
        # Read one batch late, so that the devices work while the host copies.
        if last is not None:
            yield _on_host(*last)
        last = view * views.count + start, min(views.batch_size, views.count - start), found
    if last is not None:
        yield _on_host(*last)


def _on_host(row: int, count: int, values: Sequence[jax.Array]) -> tuple[int, list[np.ndarray]]:
    return row, [np.asarray(value)[:count] for value in values]


def _encode(
    variables: Variables,
    batch: Batch,
    view: jax.Array,
    start: jax.Array,
    *,
    views: Views,
    module: Any,
    used: tuple[bool, ...],
) -> list[jax.Array]:
    """Returns the features that are used, and the labels, of a batch."""
    batch = views.augment(batch, view, start)
    features = module.apply(variables, normalize(batch["image"], module), train=False, method="encode")
    return [*(each for each, is_used in zip(features, used, strict=True) if is_used), batch["label"]]


def _used_features(model: ModelPart, variables: Variables) -> tuple[list[jax.ShapeDtypeStruct], tuple[bool, ...]]:
    """Returns the encoder's features of one image, as shapes, and whether the network reads the values of each."""
    module: Any = model.module
    image = jax.ShapeDtypeStruct((1, *model.image_shape), np.float32)
    outputs = jax.eval_shape(functools.partial(module.apply, train=False, method="encode"), variables, image)
    shapes, size = tuple(each.shape[1:] for each in outputs), (image.shape[1], image.shape[2])

    def forward(features: tuple[jax.Array, ...], variables: Variables, key: jax.Array) -> Any:
        images, mutable = EncodedImages(features, shapes, size), ["batch_stats", "auxiliary"]
        return module.apply(variables, images, train=True, mutable=mutable, rngs={"dropout": key})

    program = jax.make_jaxpr(forward)(tuple(outputs), variables, jax.random.key(0)).jaxpr
    read = {id(each) for equation in program.eqns for each in equation.invars}
    return list(outputs), tuple(id(each) in read for each in program.invars[: len(outputs)])


def _of_encoder(variables: Variables) -> dict[str, Any]:
    return {name: {"encoder": tree["encoder"]} for name, tree in variables.items() if "encoder" in tree}


def _joined(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check_memory(count: int, outputs: Sequence[jax.ShapeDtypeStruct], model: ModelPart) -> None:
    each = sum(output.size * output.dtype.itemsize for output in outputs) + math.prod(model.image_shape[:2])
    size, available = count * each, available_memory()
    if size > _MAX_FRACTION * available:
        raise DataError(
            f"{_KEY}: the features of {count:,} images of {'x'.join(map(str, model.image_shape))} need "
            f"{size / 2**20:,.1f} MiB, and {available / 2**20:,.1f} MiB of host memory are available; use a smaller "
            "data.image_size or data.cache_views, train.precision = 'bfloat16', or another data.cache"
        )
