"""Measures the memory and the time that opening a large network of another library takes, as JSON.

`python benchmarks/open_memory.py --peer PYTHON`, where PYTHON is an interpreter with transformers, which makes the
repository: the network with random weights, 0.9 to 1.4 GB. Reported are the size of the file of weights, the resident
memory in a new process at its peak, beyond that of the imported libraries, and the seconds of CPU time, after
`flaxseg.load` and again after the first prediction, of one image of 64x64 pixels.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PEERS = {
    "upernet-convnext-large": """
import sys
from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation
stages = ["stage1", "stage2", "stage3", "stage4"]
backbone = ConvNextConfig(hidden_sizes=[192, 384, 768, 1536], depths=[3, 3, 27, 3], out_features=stages)
network = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=backbone, hidden_size=512, num_labels=150))
""",
    "dpt-large": """
import sys
from transformers import DPTConfig, DPTForSemanticSegmentation
network = DPTForSemanticSegmentation(DPTConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
    backbone_out_indices=[5, 11, 17, 23], neck_hidden_sizes=[256, 512, 1024, 1024], num_labels=150,
    use_batch_norm_in_fusion_residual=True,
))
""",
    "eomt-large": """
import sys
from transformers import EomtConfig, EomtForUniversalSegmentation
network = EomtForUniversalSegmentation(EomtConfig(image_size=512, num_queries=100, num_labels=150))
network.attn_mask_probs.zero_()
""",
}
"""For each network, the program that makes it with transformers."""

SAVE = "network.save_pretrained(sys.argv[1], max_shard_size=sys.argv[2])"


def resident(key: str) -> int:
    """Returns the bytes of resident memory of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def measure(folder: str) -> dict[str, Any]:
    """Returns the peak of resident memory, in bytes beyond the libraries', and the CPU time of each step."""
    import jax
    import numpy as np

    import flaxseg

    jax.numpy.zeros(1).block_until_ready()
    before, start = resident("VmRSS"), time.process_time()
    network = flaxseg.load(folder)
    loaded = {"load_bytes": resident("VmHWM") - before, "load_seconds": round(time.process_time() - start, 2)}
    network(np.zeros((64, 64, 3), np.uint8))
    return loaded | {
        "predict_bytes": resident("VmHWM") - before,
        "predict_seconds": round(time.process_time() - start, 2),
    }


def main() -> None:
    """Makes the repository, measures in a new process, and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="an interpreter with transformers")
    parser.add_argument("--network", choices=PEERS, default="eomt-large")
    parser.add_argument("--shard", default="50GB", help="the largest size of a file of weights (default: 50GB)")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.folder:
        print(json.dumps(measure(flags.folder)))
        return
    if not flags.peer:
        parser.error("--peer is required")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([flags.peer, "-c", PEERS[flags.network] + SAVE, folder, flags.shard], check=True)
        files = list(Path(folder).glob("*.safetensors"))
        size = sum(path.stat().st_size for path in files)
        command = [sys.executable, __file__, "--folder", folder]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    ratios = {f"{step}_ratio": round(found[f"{step}_bytes"] / size, 2) for step in ("load", "predict")}
    print(json.dumps({"network": flags.network, "files": len(files), "bytes": size, **found, **ratios}))


if __name__ == "__main__":
    main()
