"""Compares losses here with what `losses_reference.py` wrote, and prints a table.

    python tests/parity/compare_losses.py FILE.npz [--golden FILE.npz]

Shown are the largest difference of the values and of their gradients with respect to the logits, over all inputs of
a case: absolute, or for values above 1 relative to them. With `--golden` a file with the same, for the ordinary tests,
is written when nothing differs.
"""

import argparse
import functools
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from loss_cases import CASES, INPUTS, logits_and_label

from flaxseg.losses import LOSSES

TOLERANCE = 1e-6


def values_and_gradients(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a case gives here for all inputs: values [N] and gradients [N, B, H, W, K]."""
    case = CASES[name]
    loss = jax.jit(jax.value_and_grad(functools.partial(LOSSES[case.loss], **case.options)))
    values, gradients = zip(*(loss(*logits_and_label(given, case.num_classes)) for given in INPUTS), strict=True)
    return np.array(values), np.array(gradients)


def differences(name: str, reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference of a case's values, and of its gradients, from the reference.

    Where the reference is not defined, without any counted pixel, 0 is expected.
    """
    found = dict(zip(("value", "gradient"), values_and_gradients(name), strict=True))
    return {key: difference(value, np.nan_to_num(reference[f"{name}/{key}"])) for key, value in found.items()}


def difference(value: np.ndarray, reference: np.ndarray) -> float:
    """Returns the largest difference, in units of the reference where it is above 1."""
    return float((np.abs(value - reference) / np.maximum(np.abs(reference), 1)).max())


def main() -> int:
    """Reads the flags, prints the table; the exit status is 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--golden", type=Path)
    flags = parser.parse_args()
    reference = np.load(flags.references)
    failed = 0
    print(f"{'':36}{'value':>12}{'gradient':>12}")
    for name in CASES:
        found = differences(name, reference)
        # Written so that NaN differs.
        wrong = not max(found["value"], found["gradient"]) <= TOLERANCE
        failed += wrong
        print(f"{name:36}{found['value']:12.1e}{found['gradient']:12.1e}" + "  DIFFERS" * wrong, flush=True)
    if flags.golden and not failed:
        np.savez_compressed(flags.golden, **reference)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
