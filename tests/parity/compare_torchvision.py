"""Opens the files that `torchvision_reference.py` wrote, and compares logits and gradients with those of torchvision.

    python tests/parity/compare_torchvision.py DIR [--only PATTERN] [--golden DIR]

The table is that of `compare_public.py`. With --golden, files for the ordinary tests are written: names, shapes, and
the logits of the second size, at every eighth pixel.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from compare_public import COLUMNS, compare
from table import print_header, print_row
from torchvision_cases import GOLDEN, IMAGE_SIZES


def write_golden(reference: Path, target: Path) -> None:
    """Writes the file for the ordinary tests."""
    arrays = np.load(reference)
    logits = arrays["double/{}x{}".format(*IMAGE_SIZES[1])].astype(np.float32)
    np.savez_compressed(target, names=arrays["names"], shapes=arrays["shapes"], logits=logits[:, ::8, ::8])


def main() -> int:
    """Prints the table; returns 1 if something differs, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--golden", type=Path)
    flags = parser.parse_args()
    failed = 0
    print_header(COLUMNS)
    for path in sorted(flags.references.glob(f"{flags.only}.pth")):
        found = compare(path, IMAGE_SIZES)
        wrong = print_row(path.stem, found, COLUMNS)
        failed += wrong
        jax.clear_caches()
        if flags.golden and not wrong and path.stem in GOLDEN:
            write_golden(path.with_suffix(".npz"), flags.golden / f"{path.stem}.npz")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
