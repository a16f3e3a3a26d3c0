"""What `flaxseg predict` prints at the end."""

from collections.abc import Mapping, Sequence

import numpy as np

from flaxseg.deploy.predict_files import Outcome
from flaxseg.errors import number_of


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
    lines, failures = [], []
    for kind, outcome in outcomes.items():
        noun = kind.removesuffix("s")
        kept = f", {outcome.kept:,} {'was' if outcome.kept == 1 else 'were'} there before" if outcome.kept else ""
        results = f"; results in {place}" if outcome.written or outcome.kept else ""
        lines.append(f"{network}: {number_of(outcome.written, noun)} predicted{kept}{results}")
        if outcome.failed:
            were = "was" if len(outcome.failed) == 1 else "were"
            failures.append(f"error: {len(outcome.failed):,} of {number_of(outcome.given, noun)} {were} not predicted:")
            failures += [f"  {message}" for message in outcome.failed]
    pixels = np.sum([outcome.pixels for outcome in outcomes.values()], axis=0)
    if pixels.any():
        numbers = {kind: outcome.written + outcome.kept for kind, outcome in outcomes.items()}
        of = " and ".join(number_of(number, kind.removesuffix("s")) for kind, number in numbers.items() if number)
        lines.append(f"of the pixels of {of}:")
        lines += [f"  {name:<20}  {count / pixels.sum():7.2%}" for name, count in zip(class_names, pixels, strict=True)]
    return lines, failures
