"""Opens the folders that `public_reference.py` wrote, and compares their logits with those of their own library.

    python tests/parity/compare_public.py DIR [--only PATTERN]

The table shows, for each of two sizes of images, the largest difference of the logits relative to the largest logit.
"""

import argparse
import contextlib
import functools
import io
import sys
from pathlib import Path

import jax
import numpy as np
from compare import TOLERANCE, difference
from public_cases import sizes_of
from references import image

from flaxseg.deploy.saved import read_model


def compare(folder: Path) -> list[float]:
    """Returns the differences at both sizes."""
    reference = np.load(folder.with_suffix(".npz"))
    with contextlib.redirect_stderr(io.StringIO()):
        saved = read_model(folder)
    predict = jax.jit(functools.partial(saved.model.apply, train=False))
    found = []
    for height, width in sizes_of(folder.name):
        expected = reference[f"{height}x{width}"]
        logits = np.asarray(predict(saved.variables, image((height, width), saved.description.channels)))
        # A network with one class has two here, of which the first has the logit 0.
        found.append(difference(logits[..., 1:] if expected.shape[-1] == 1 else logits, expected))
    return found


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--only", default="*")
    flags = parser.parse_args()
    failed = 0
    for path in sorted(flags.references.glob(f"{flags.only}.npz")):
        differences = compare(path.with_suffix(""))
        wrong = max(differences) > TOLERANCE
        failed += wrong
        print(f"{path.stem:40}" + "".join(f"{each:12.1e}" for each in differences) + "  DIFFERS" * wrong, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
