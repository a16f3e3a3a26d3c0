"""Opens the files that `torchvision_reference.py` wrote, and compares their logits and gradients with torchvision's.

    python tests/parity/compare_torchvision.py DIR [--only PATTERN] [--golden DIR]

The table shows, for each of two sizes of images, the largest difference of the logits relative to the largest logit,
and the largest difference of a parameter's gradients relative to the largest of them, or to 0.001 of the largest of
all. Gradients are computed in float64: among so many units, rounding to float32 switches some ReLU on or off.

With --golden, files for the ordinary tests are written: names, shapes, and the logits of the second size, at every
eighth pixel.
"""

import argparse
import contextlib
import dataclasses
import io
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from compare import TOLERANCE, difference
from flax import traverse_util
from torchvision_cases import GOLDEN, IMAGE_SIZES, images_of, labels

from flaxseg.deploy.saved import SavedModel, read_model
from flaxseg.models.pretrained.public_source import PublicNetwork, open_public

GRADIENT_TOLERANCE = 1e-3


def gradient_difference(saved: SavedModel, public: PublicNetwork, reference: Any) -> float:
    """Returns the largest difference of gradients; NaN if some parameter has none."""
    size = IMAGE_SIZES[0]
    # What networks compute in float32 regardless of their type is computed in float64, too.
    with jax.enable_x64(True), mock.patch.object(jnp, "float32", jnp.float64):
        model, variables = _double(saved.model), jax.tree.map(np.float64, dict(saved.variables))
        classes = jax.nn.one_hot(labels(size), saved.description.num_classes, dtype=jnp.float64)

        def loss(params: Any) -> jax.Array:
            logits = model.apply({**variables, "params": params}, np.float64(images_of(size)), train=False)
            return -(jax.nn.log_softmax(logits) * classes).sum(-1).mean()

        found = traverse_util.flatten_dict(jax.jit(jax.grad(loss))(variables["params"]), sep="/")
    given = {key.removeprefix("gradient/"): reference[key] for key in reference.files if key.startswith("gradient/")}
    # Both heads of LR-ASPP have the gradient of their common bias.
    given = {name: value / 2 if "low_classifier.bias" in name or "high_classifier.bias" in name else value
             for name, value in given.items()}  # fmt: skip
    expected, _ = public.layout.convert(saved.model, given)
    used = {f"params/{path}": np.asarray(value) for path, value in found.items() if not path.startswith("auxiliary")}
    if used.keys() != expected.keys():
        return float("nan")
    floor = 1e-3 * max(map(_largest, expected.values()))
    return max(_largest(used[path] - value) / max(_largest(value), floor) for path, value in expected.items())


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max())


def _double(module: nn.Module) -> Any:
    """Returns a network, or a part of one, that computes in float64."""
    changed: dict[str, Any] = {"dtype": jnp.float64} if hasattr(module, "dtype") else {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, None)
        if isinstance(value, nn.Module) and field.name != "parent":
            changed[field.name] = _double(value)
    return module.clone(**changed)


def compare(path: Path) -> list[float]:
    """Returns the differences of the logits at both sizes, and of the gradients."""
    reference = np.load(path.with_suffix(".npz"))
    with contextlib.redirect_stderr(io.StringIO()):
        saved, public = read_model(path), open_public(path)
    assert isinstance(public, PublicNetwork)
    predict = jax.jit(lambda variables, x: saved.model.apply(variables, jnp.asarray(x), train=False))
    found = [
        difference(np.asarray(predict(saved.variables, images_of(size))), reference["{}x{}".format(*size)])
        for size in IMAGE_SIZES
    ]
    return [*found, gradient_difference(saved, public, reference)]


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--golden", type=Path)
    flags = parser.parse_args()
    failed = 0
    for path in sorted(flags.references.glob(f"{flags.only}.pth")):
        *logits, gradient = compare(path)
        # Negated so that NaN counts as a difference.
        wrong = not (max(logits) <= TOLERANCE and gradient <= GRADIENT_TOLERANCE)
        failed += wrong
        if flags.golden and not wrong and path.stem in GOLDEN:
            reference = np.load(path.with_suffix(".npz"))
            kept = {key: reference[key] for key in ("names", "shapes")}
            logits_there = reference["{}x{}".format(*IMAGE_SIZES[1])]
            np.savez_compressed(flags.golden / f"{path.stem}.npz", **kept, logits=logits_there[:, ::8, ::8])
        print(
            f"{path.stem:40}" + "".join(f"{each:12.1e}" for each in (*logits, gradient)) + "  DIFFERS" * wrong,
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
