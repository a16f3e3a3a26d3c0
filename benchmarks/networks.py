"""The networks that flaxseg and PyTorch are compared on, and the commands that time them."""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from measuring import PEERS, ROOT


class Case(NamedTuple):
    """A network, and how segmentation_models_pytorch calls its encoder."""

    model: str
    encoder: str
    peer_encoder: str
    batch: int
    size: int

    @property
    def name(self) -> str:
        """The name of its row."""
        return f"{self.model}-{self.encoder}" if self.encoder else self.model


CASES = (
    Case("plain_unet", "", "", 8, 128),
    Case("unet", "resnet34", "resnet34", 4, 256),
    Case("unet", "efficientnet_b0", "efficientnet-b0", 4, 256),
    Case("deeplabv3plus", "resnet50", "resnet50", 2, 256),
    Case("segformer", "mit_b0", "mit_b0", 4, 256),
)
PHASES = ("train", "infer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that select the networks and the peer."""
    parser.add_argument("--peer", metavar="PYTHON", required=True, help="interpreter with PyTorch")
    parser.add_argument("--peer-script", metavar="FILE", default=str(PEERS / "torch_step.py"))
    parser.add_argument("--case", nargs="+", choices=[case.name for case in CASES], help="networks (default: all)")
    parser.add_argument("--batch", type=int, help="images at once, instead of each network's own")
    parser.add_argument("--size", type=int, help="height and width, instead of each network's own")


def selected(flags: argparse.Namespace) -> Iterator[Case]:
    """Yields the networks that the arguments select, at their batch and size."""
    for case in CASES:
        if not flags.case or case.name in flags.case:
            yield case._replace(batch=flags.batch or case.batch, size=flags.size or case.size)


def commands(case: Case, *, peer_script: str) -> tuple[list[str], list[str]]:
    """Returns the commands that time a network in flaxseg and in PyTorch, without their interpreters."""
    same = ["--batch", str(case.batch), "--size", str(case.size)]
    ours = [str(ROOT / "benchmarks" / "step.py"), "--model", case.model, *same]
    peer = [peer_script, "--arch", case.model, *same]
    if case.encoder:
        ours += ["--encoder", case.encoder]
        peer += ["--encoder", case.peer_encoder]
    return ours, peer
