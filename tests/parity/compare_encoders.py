"""Compares flaxseg's encoders with the references that `encoders_reference.py` wrote, and prints a table.

    python tests/parity/compare_encoders.py DIR [--only PATTERN]

The table shows, in float32 and in float64, the largest difference relative to the reference's largest value: over the
features of all images and output strides in inference mode, and over the gradients with respect to the parameters,
where the reference has them; see `differences.FLOOR`.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from compare import tensors_of
from differences import difference, gradient_difference
from flax import traverse_util
from jax_double import (
    DOUBLE_GRADIENT_TOLERANCE,
    DOUBLE_TOLERANCE,
    GRADIENT_TOLERANCE,
    double_variables,
    expected_gradients,
    in_float64,
    single_difference,
)
from references import feature_sizes, feature_strides, feature_weights, image
from table import TOLERANCE, print_header, print_row

from flaxseg.models import unet
from flaxseg.models.encoders import make_encoder
from flaxseg.models.pretrained.load import put_tensors
from flaxseg.models.pretrained.torch_names import convert_tensors
from flaxseg.models.pretrained.torch_networks import torch_names_of


def loaded(name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the encoder's variables with the reference's weights."""
    model = unet(num_classes=2, encoder=name)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    variables = put_tensors(shapes, model, tensors, name="the reference", partial=False)
    return {collection: tree["encoder"] for collection, tree in variables.items() if "encoder" in tree}


def feature_difference(name: str, variables: dict[str, Any], reference: Any, dtype: Any) -> tuple[float, str]:
    """Returns the largest difference of a feature, and where it is."""
    found = []
    for stride in feature_strides(name):
        encoder = make_encoder(name, output_stride=stride, dtype=dtype)
        apply = jax.jit(functools.partial(encoder.apply, train=False))
        for height, width in feature_sizes(name):
            for level, feature in enumerate(apply(variables, image((height, width)).astype(dtype))[1:], 1):
                key = f"{stride}/{height}x{width}/{level}"
                # A vision transformer has fewer features than the others.
                if feature.size:
                    found.append((difference(np.asarray(feature), reference[key]), key))
    return max(found)


def gradients_fn(name: str, variables: dict[str, Any], dtype: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns a function that computes the gradients with respect to the parameters, by their paths in a network."""
    encoder = make_encoder(name, dtype=dtype)

    @jax.jit
    @jax.grad
    def gradients(params: Any, x: Any) -> jax.Array:
        features = encoder.apply({**variables, "params": params}, x, train=False)[1:]
        return sum((jnp.mean(f * feature_weights(f.shape)) for f in features if f.size), start=jnp.zeros((), dtype))

    def call(x: np.ndarray) -> dict[str, np.ndarray]:
        flat = traverse_util.flatten_dict({"params": {"encoder": gradients(variables["params"], x)}}, sep="/")
        return {path: np.asarray(value) for path, value in flat.items()}

    return call


def compare(name: str, reference: Any) -> dict[str, tuple[float, str]]:
    """Returns the differences of COLUMNS, each with where it is."""
    names = torch_names_of(unet(num_classes=2, encoder=name), whole=False)
    expected = expected_gradients(reference, "gradient/", lambda tensors: convert_tensors(tensors, names)[0])
    variables, found = loaded(name, tensors_of(reference, name)), {}
    found["features"] = feature_difference(name, variables, reference, jnp.float32)
    with in_float64():
        wide = double_variables(variables)
        found["features, float64"] = feature_difference(name, wide, reference, jnp.float64)
        if not expected:
            return found
        size, double = feature_sizes(name)[0], gradients_fn(name, wide, jnp.float64)
        found["gradient, float64"] = gradient_difference(double(np.float64(image(size))), expected)

    def images(size: tuple[int, int], number: int) -> np.ndarray:
        return image(size) * 0.9**number

    found["gradient"] = single_difference(gradients_fn(name, variables, jnp.float32), double, images, size)
    return found


COLUMNS = {
    "features": TOLERANCE,
    "gradient": GRADIENT_TOLERANCE,
    "features, float64": DOUBLE_TOLERANCE,
    "gradient, float64": DOUBLE_GRADIENT_TOLERANCE,
}
"""The columns of the table, with the largest difference that is allowed; see `jax_double.ATTEMPTS`."""


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--only", default="*")
    flags = parser.parse_args()
    failed = 0
    print_header(COLUMNS)
    for path in sorted(flags.references.glob(f"{flags.only}.npz")):
        found = compare(path.stem, np.load(path))
        failed += print_row(path.stem, found, COLUMNS)
        jax.clear_caches()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
