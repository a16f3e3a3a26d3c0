"""Times the networks that docs/models.md recommends to begin with, and prints JSON.

python benchmarks/model_times.py
python benchmarks/model_times.py --steps 4 --size 128
"""

import argparse
import sys
from typing import Any

from measuring import ROOT, print_result, progress, result, run_json, table, text
from networks import PHASES, Case

CASES = (
    ("plain_unet", ""),
    ("unet", "efficientnet_lite0"),
    ("unet", "resnet34"),
    ("lraspp", "mobilenetv3_large_100"),
    ("deeplabv3plus", "resnet50"),
    ("segformer", "mit_b2"),
    ("upernet", "convnext_tiny"),
    ("linear", "vit_small_patch14_dinov2"),
)


def measure(case: Case, steps: int) -> dict[str, Any]:
    """Returns what `step.py` prints for a network."""
    progress(case.name)
    encoder = ["--encoder", case.encoder] if case.encoder else []
    shape = ["--batch", str(case.batch), "--size", str(case.size), "--steps", str(steps)]
    return run_json([sys.executable, str(ROOT / "benchmarks" / "step.py"), "--model", case.model, *encoder, *shape])


def row(case: Case, found: dict[str, Any]) -> list[Any]:
    """Returns the table's row of a network."""
    rates = [round(case.batch / found[phase]["wall_median"], 1) for phase in PHASES]
    return [f"`{case.name}`", *rates, found["train"]["peak_rss_mib"]]


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="images at once (default: 4)")
    parser.add_argument("--size", type=int, default=256, help="their height and width (default: 256)")
    parser.add_argument("--steps", type=int, default=6, help="timed calls, of which the median counts (default: 6)")
    flags = parser.parse_args()
    cases = [Case(model, encoder, "", flags.batch, flags.size) for model, encoder in CASES]
    found = [measure(case, flags.steps) for case in cases]
    about = f"""Images of {flags.size}x{flags.size} per second, in batches of {flags.batch}, float32: a training step of
    all parameters with AdamW, and inference; and the largest resident memory until the end of training in MiB, with the
    interpreter and the compilation, if the program was not in the cache."""
    columns = ["network", "training, images/s", "inference, images/s", "memory"]
    parts = [text(about), table(columns, [row(case, each) for case, each in zip(cases, found, strict=True)])]
    print_result(result("Networks to begin with", parts, versions=[found[0]["library"]], data=found))


if __name__ == "__main__":
    main()
