"""Compares flaxseg's losses with the references that `losses_reference.py` wrote, and prints a table.

    python tests/parity/compare_losses.py FILE.npz [--golden FILE.npz]

The table shows the largest difference of the values, and of their gradients with respect to the logits, over all inputs
of a case: absolute differences, or relative ones for values above 1. With `--golden`, the references are also written
to a file for the ordinary tests, provided that nothing differs.
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
    """Returns the values [N] and gradients [N, B, H, W, K] of a case for all inputs."""
    case = CASES[name]
    loss = jax.jit(jax.value_and_grad(functools.partial(LOSSES[case.loss], **case.options)))
    results = (loss(*logits_and_label(name, case.num_classes)) for name in INPUTS)
    values, gradients = zip(*results, strict=True)
    return np.array(values), np.array(gradients)


def differences(name: str, reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest differences of a case's values and gradients from the reference.

    Where the reference is undefined, without valid pixels, 0 is expected.
    """
    found = dict(zip(("value", "gradient"), values_and_gradients(name), strict=True))
    return {key: difference(value, np.nan_to_num(reference[f"{name}/{key}"])) for key, value in found.items()}


def difference(value: np.ndarray, reference: np.ndarray) -> float:
    """Returns the largest difference, divided by the reference where it is above 1."""
    return float((np.abs(value - reference) / np.maximum(np.abs(reference), 1)).max())


def main() -> int:
    """Parses the flags and prints the table; returns the exit status, 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--golden", type=Path)
    flags = parser.parse_args()
    reference = np.load(flags.references)
    failed = 0
    print(f"{'':36}{'value':>12}{'gradient':>12}")
    for name in CASES:
        found = differences(name, reference)
        # Negated so that NaN counts as a difference.
        wrong = not max(found["value"], found["gradient"]) <= TOLERANCE
        failed += wrong
        print(f"{name:36}{found['value']:12.1e}{found['gradient']:12.1e}" + "  DIFFERS" * wrong, flush=True)
    if flags.golden and not failed:
        np.savez_compressed(flags.golden, **reference)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
