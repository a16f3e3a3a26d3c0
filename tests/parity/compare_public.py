"""Opens the folders that `public_reference.py` wrote, and compares logits and gradients with those of their library.

    python tests/parity/compare_public.py DIR [--only PATTERN]

The table shows the largest differences: of the logits of two sizes of images relative to the largest logit, in float32
and in float64; and of the gradients of a cross-entropy with respect to the parameters, see `differences.FLOOR`, in
float32 and in float64, and in training mode in float64.
"""

import argparse
import contextlib
import functools
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from differences import difference
from jax_double import LIMITS, compare_double, main_logits
from public_cases import sizes_of
from references import bright_image
from table import TOLERANCE, print_header, print_row

from flaxseg.deploy.saved import read_model
from flaxseg.models.pretrained.public_source import PublicNetwork, open_public


def compare(path: Path, sizes: Sequence[tuple[int, int]]) -> dict[str, tuple[float, str]]:
    """Returns the differences, each with where it is.

    Args:
      path: the folder or file of the network; the reference is beside it.
      sizes: heights and widths of the images.
    """
    reference = np.load(path.with_suffix(".npz"))
    with contextlib.redirect_stderr(io.StringIO()):
        saved, public = read_model(path), open_public(path)
    assert isinstance(public, PublicNetwork)
    predict = jax.jit(functools.partial(saved.model.apply, train=False))
    found = []
    for height, width in sizes:
        expected = reference[f"double/{height}x{width}"]
        logits = np.asarray(predict(saved.variables, bright_image((height, width), saved.description.channels)))
        found.append((difference(main_logits(logits, expected), expected), f"{height}x{width}"))

    def convert(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        arrays, _ = public.layout.convert(saved.model, tensors)
        if expected.shape[-1] == 1:
            # The gradients of the background's logit, which is 0 there, are those of the foreground's, negated.
            heads = [path for path in arrays if path.startswith("params/head/")]
            arrays |= {path: arrays[path][..., 1:] * np.array([-1.0, 1.0]) for path in heads}
        return arrays

    doubles = compare_double(saved.model, saved.variables, reference, convert, channels=saved.description.channels)
    return {"logits": max(found), **doubles}


COLUMNS = {"logits": TOLERANCE, **LIMITS}
"""The columns of the table, with the largest difference that is allowed."""


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--only", default="*")
    flags = parser.parse_args()
    failed = 0
    print_header(COLUMNS)
    for path in sorted(flags.references.glob(f"{flags.only}.npz")):
        found = compare(path.with_suffix(""), sizes_of(path.stem))
        failed += print_row(path.stem, found, COLUMNS)
        jax.clear_caches()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
