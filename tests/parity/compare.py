"""Compares flaxseg's networks with the references that `torch_reference.py` wrote, and prints a table.

    python tests/parity/compare.py DIR [--golden DIR]

The table shows the largest difference relative to the reference's largest value: of the logits of both images in
inference mode, of the logits in training mode, and of the running statistics after training mode; and, for
`references.GRADIENTS`, what `jax_double.compare_double` returns. With `--golden`, the files for the ordinary tests,
`references.GOLDEN`, are written there; they have the logits at every sixth pixel.
"""

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from differences import difference
from flax import traverse_util
from jax_double import LIMITS, compare_double
from references import GOLDEN, NUM_CLASSES, gain_of, image, sizes_of, tensor, train_batch_of
from table import TOLERANCE, print_header, print_row

from flaxseg.models import build_model
from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.pretrained.load import put_tensors
from flaxseg.models.pretrained.torch_names import convert_tensors
from flaxseg.models.pretrained.torch_networks import tensor_arrays, torch_names_of

TRAIN_TOLERANCE = 1e-3
"""In training mode, the few pixels of the coarsest features amplify differences: nearly constant values are divided by
their standard deviation."""


def tensors_of(reference: Any, encoder: str) -> dict[str, np.ndarray]:
    """Returns the tensors of the reference with this encoder."""
    names, shapes = str(reference["names"]).split("\n"), json.loads(str(reference["shapes"]))
    gain = gain_of(encoder)
    return {name: tensor(name, tuple(shape), gain) for name, shape in zip(names, shapes, strict=True)}


def loaded(model: EncoderDecoder, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the network's variables with the reference's weights."""
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    return put_tensors(shapes, model, tensors, name="the reference", partial=False)


def outputs(
    model: nn.Module,
    variables: dict[str, Any],
    *,
    train_size: tuple[int, int] | None,
    train_batch: int,
    sizes: Sequence[tuple[int, int]],
) -> dict[str, np.ndarray]:
    """Returns the logits and statistics, under the names in the reference's file; statistics by flaxseg's paths.

    Args:
      model: the network.
      variables: the network's variables, with the reference's weights.
      train_size: height and width of the images in training mode, which is left out if this is None.
      train_batch: number of images in training mode.
      sizes: heights and widths of the images in inference mode.
    """
    predict = jax.jit(functools.partial(model.apply, train=False))
    found = {f"logits_{h}x{w}": np.asarray(predict(variables, image((h, w)))) for h, w in sizes}
    if train_size is None:
        return found

    def without_dropout(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)

    def train(variables: Any, x: Any) -> Any:
        with nn.intercept_methods(without_dropout):
            return model.apply(variables, x, train=True, mutable=["batch_stats"])

    logits, updates = jax.jit(train)(variables, image(train_size, batch=train_batch))
    found["train_logits"] = np.asarray(logits)
    return found | {
        f"after/{name}": np.asarray(value) for name, value in traverse_util.flatten_dict(updates, sep="/").items()
    }


def expected_statistics(model: EncoderDecoder, reference: Any, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the reference's running statistics that are in `found`, by flaxseg's paths.

    The reference also has statistics of the encoder's unused stages.
    """
    after = {name.removeprefix("after/"): reference[name] for name in reference.files if name.startswith("after/")}
    expected, _ = convert_tensors(after, torch_names_of(model, whole=True))
    return {name: expected[name.removeprefix("after/")] for name in found if name.startswith("after/")}


def compare(path: Path) -> tuple[dict[str, tuple[float, str]], dict[str, np.ndarray]]:
    """Returns the differences, each with where it is, and the contents of the golden file for the ordinary tests."""
    architecture, encoder = path.stem.split("-", 1)
    reference = np.load(path)
    model: Any = build_model(architecture, num_classes=NUM_CLASSES, encoder=encoder)
    sizes, variables = sizes_of(architecture, encoder), loaded(model, tensors_of(reference, encoder))
    batch = train_batch_of(encoder)
    found = outputs(model, variables, train_size=sizes[0], train_batch=batch, sizes=sizes)
    statistics = expected_statistics(model, reference, found)
    names = (*(f"logits_{h}x{w}" for h, w in sizes), "train_logits")
    columns = zip(("logits", "logits, odd size", "train logits"), names, strict=True)
    result = {column: (difference(found[name], reference[name]), name) for column, name in columns}
    each = [(difference(found[name], value), name) for name, value in statistics.items()]
    result["statistics"] = max(each, default=(0.0, ""))
    result[OWN_STATISTICS] = float(reference["float32 statistics"]), ""
    result |= compare_double(
        model, variables, reference, lambda tensors: tensor_arrays(model, tensors)[0], train_batch=min(batch, 4)
    )
    kept = {name: reference[name] for name in ("names", "shapes")}
    kept |= {name: reference[name][:, ::6, ::6] for name in names}
    kept["statistics"] = np.array([np.abs(statistics[name]).mean() for name in sorted(statistics)], np.float32)
    return result, kept


OWN_STATISTICS = "PyTorch's stats"
"""The column with the difference of PyTorch's statistics in float32 from those in float64."""

COLUMNS = {
    "logits": TOLERANCE,
    "logits, odd size": TOLERANCE,
    "train logits": TRAIN_TOLERANCE,
    "statistics": TRAIN_TOLERANCE,
    OWN_STATISTICS: float("inf"),
    **LIMITS,
}
"""The columns of the table, with the largest difference that is allowed."""


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--only", default="*.npz")
    flags = parser.parse_args()
    failed = 0
    print_header(COLUMNS)
    for path in sorted(flags.references.glob(flags.only)):
        differences, kept = compare(path)
        # Normalizing a feature of few values, or of equal ones, magnifies rounding.
        limits = {**COLUMNS, "statistics": max(COLUMNS["statistics"], 2 * differences[OWN_STATISTICS][0])}
        wrong = print_row(path.stem, differences, limits)
        failed += wrong
        jax.clear_caches()
        if flags.golden and not wrong and path.stem.replace("-", ":", 1) in GOLDEN:
            np.savez_compressed(flags.golden / path.name, **kept)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
