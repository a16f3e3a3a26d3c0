"""`python -m flaxseg.models`."""

import json
import subprocess
import sys

import pytest

from flaxseg.models.__main__ import main
from flaxseg.models.encoders import ENCODERS


def test_the_tables(capsys):
    assert main(["resnet18", "--size", "64", "96", "unet"]) == 0
    first, _, architectures, unet, _, encoders, resnet = capsys.readouterr().out.splitlines()
    assert first == "for a picture of 64 x 96 x 3 and 2 classes; GMACs are multiply-adds"
    assert architectures.split() == ["architecture", "parameters", "GMACs", "stride", "encoder"]
    assert unet.split() == ["unet", "7.76", "M", "1.13", "16", "none"]
    assert encoders.split() == ["encoder", "parameters", "GMACs", "strides", "mean", "/", "std", "weights"]
    assert resnet.split()[:5] == ["resnet18", "11.18", "M", "0.22", "8,16,32"]
    assert resnet.endswith("123.675 116.28 103.53 / 58.395 57.12 57.375   smp-hub/resnet18.imagenet@3f2325f")
    assert encoders.index("weights") == resnet.index("smp-hub")


def test_numbers_in_full(capsys):
    assert main(["resnet18", "unet", "--json", "--classes", "3", "--size", "33", "47"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (network,), (encoder,) = printed["architectures"], printed["encoders"]
    assert (network["name"], network["parameters"], network["encoder"]) == ("unet", 7_763_107, None)
    assert encoder["weights"]["revision"] == ENCODERS["resnet18"].pretrained.revision
    # As for 64 x 64, to which it is padded.
    assert encoder["multiply_adds"] * 12.25 == pytest.approx(1.814e9, rel=1e-3)
    assert (printed["height"], printed["width"], printed["classes"]) == (33, 47, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet18", "resnet43"], "resnet43: no architecture or encoder has this name; did you mean 'resnet34'?"),
        (["--size", "0", "5"], "--size = 0: must be an integer of at least 1"),
        (["--classes", "0"], "--classes = 0: must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_used_is_named(words, message, capsys):
    assert main(words) == 1
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


def test_no_device_is_touched():
    program = """
import jax._src.xla_bridge as bridge
from flaxseg.models.__main__ import main
main(["deeplabv3plus", "mit_b0"])
print(bridge.backends_are_initialized())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("False\n") and not done.stderr
