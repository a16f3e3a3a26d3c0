"""Compares flaxseg's encoders with the references that `encoders_reference.py` wrote, and prints a table.

    python tests/parity/compare_encoders.py DIR [--only PATTERN]

The table shows the largest difference relative to the reference's largest value: over the features of all images and
output strides in inference mode, and over the gradients with respect to the parameters, where the reference has them.
"""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from compare import TOLERANCE, difference, tensors_of
from flax import traverse_util
from references import feature_sizes, feature_strides, feature_weights, image

from flaxseg.models import unet
from flaxseg.models.encoders import make_encoder
from flaxseg.models.pretrained.load import put_tensors
from flaxseg.models.pretrained.torch_names import convert_tensors
from flaxseg.models.pretrained.torch_networks import torch_names_of

GRADIENT_TOLERANCE = 1e-3


def loaded(name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the encoder's variables with the reference's weights."""
    model = unet(num_classes=2, encoder=name)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    variables = put_tensors(shapes, model, tensors, name="the reference", partial=False)
    return {collection: tree["encoder"] for collection, tree in variables.items() if "encoder" in tree}


def feature_difference(name: str, variables: dict[str, Any], reference: Any) -> float:
    """Returns the largest difference of a feature."""
    found = 0.0
    for stride in feature_strides(name):
        encoder = make_encoder(name, output_stride=stride, dtype=jnp.float32)
        apply = jax.jit(functools.partial(encoder.apply, train=False))
        for height, width in feature_sizes(name):
            for level, feature in enumerate(apply(variables, image((height, width)))):
                if level and feature.size:
                    found = max(found, difference(np.asarray(feature), reference[f"{stride}/{height}x{width}/{level}"]))
    return found


def gradient_difference(name: str, variables: dict[str, Any], reference: Any) -> float:
    """Returns the largest difference of the gradient with respect to a parameter; NaN if some parameter has none."""
    encoder = make_encoder(name, dtype=jnp.float32)
    images = image(feature_sizes(name)[0])

    def loss(params: Any) -> jax.Array:
        features = encoder.apply({**variables, "params": params}, images, train=False)[1:]
        return sum((jnp.mean(f * feature_weights(f.shape)) for f in features if f.size), start=jnp.zeros(()))

    gradients = traverse_util.flatten_dict(jax.jit(jax.grad(loss))(variables["params"]), sep="/")
    given = {key.removeprefix("gradient/"): reference[key] for key in reference.files if key.startswith("gradient/")}
    expected, _ = convert_tensors(given, torch_names_of(unet(num_classes=2, encoder=name), whole=False))
    paths = {path: f"params/encoder/{path}" for path in gradients}
    if set(paths.values()) != set(expected):
        return float("nan")
    return max(difference(np.asarray(gradients[path]), expected[there]) for path, there in paths.items())


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--only", default="*")
    flags = parser.parse_args()
    failed = 0
    print(f"{'':28}{'features':>12}{'gradients':>12}")
    for path in sorted(flags.references.glob(f"{flags.only}.npz")):
        reference = np.load(path)
        variables = loaded(path.stem, tensors_of(reference, path.stem))
        features, gradients = feature_difference(path.stem, variables, reference), None
        if any(key.startswith("gradient/") for key in reference.files):
            gradients = gradient_difference(path.stem, variables, reference)
        # Negated so that NaN counts as a difference.
        wrong = not features <= TOLERANCE or not (gradients is None or gradients <= GRADIENT_TOLERANCE)
        failed += wrong
        shown = "-" if gradients is None else f"{gradients:.1e}"
        print(f"{path.stem:28}{features:12.1e}{shown:>12}" + "  DIFFERS" * wrong, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
