"""What `flaxseg predict` prints at the end."""

from collections.abc import Mapping, Sequence

import numpy as np

from flaxseg.deploy.predict_files import Outcome


def prediction_report(
    network: str, class_names: Sequence[str], outcomes: Mapping[str, Outcome], place: str
) -> tuple[list[str], list[str]]:
    """Returns the lines about what was predicted, and those about what was not.

    Args:
      network: the name of the network.
      class_names: one name per class.
      outcomes: what became of the "images" and of the "videos"; either may be missing.
      place: the folder of the results.
    """
    pixels = np.sum([outcome.pixels for outcome in outcomes.values()], axis=0)
    lines = [
        f"{name:<20}  {count / pixels.sum():7.2%} of the pixels"
        for name, count in zip(class_names, pixels, strict=True)
        if pixels.any()
    ]
    failures = []
    for kind, outcome in outcomes.items():
        kept = f", {outcome.kept:,} were there before" if outcome.kept else ""
        lines.append(f"{network}: {outcome.written:,} {kind} predicted{kept}; results in {place}")
        if outcome.failed:
            failures.append(f"error: {len(outcome.failed):,} of {outcome.given:,} {kind} were not predicted:")
            failures += [f"  {message}" for message in outcome.failed]
    return lines, failures
