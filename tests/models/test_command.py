"""`flaxseg models`."""

import json
import subprocess
import sys

import pytest

from flaxseg.models.__main__ import main
from flaxseg.models.encoders import ENCODERS


def test_the_tables(capsys):
    assert main(["resnet18", "--size", "64", "96", "plain_unet"]) == 0
    first, _, architectures, plain, _, encoders, resnet = capsys.readouterr().out.splitlines()
    assert first == "for an image of 64 x 96 x 3 and 2 classes; GMACs are multiply-adds"
    assert architectures.split() == ["architecture", "parameters", "GMACs", "stride", "encoder"]
    assert plain.split() == ["plain_unet", "7.76", "M", "1.13", "16", "none"]
    assert encoders.split() == ["encoder", "parameters", "GMACs", "strides", "mean", "/", "std", "weights"]
    assert resnet.split()[:5] == ["resnet18", "11.18", "M", "0.22", "8,16,32"]
    assert resnet.endswith("123.675 116.28 103.53 / 58.395 57.12 57.375   smp-hub/resnet18.imagenet@3f2325f")
    assert encoders.index("weights") == resnet.index("smp-hub")


def test_the_encoder_of_architectures_is_chosen(capsys):
    """24.44 M parameters with ResNet-34, of 21.28 M; ResNet-18 has 11.18 M."""
    assert main(["unet", "plain_unet", "--encoder", "resnet18", "--size", "64", "64"]) == 0
    *_, unet, plain = capsys.readouterr().out.splitlines()
    assert (unet.split()[:2], unet.split()[-1]) == (["unet", "14.33"], "resnet18")
    assert plain.split()[-1] == "none"


def test_json_has_exact_numbers(capsys):
    assert main(["resnet18", "plain_unet", "--json", "--classes", "3", "--size", "33", "47"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (network,), (encoder,) = printed["architectures"], printed["encoders"]
    assert (network["name"], network["parameters"], network["encoder"]) == ("plain_unet", 7_763_107, None)
    assert encoder["weights"]["revision"] == ENCODERS["resnet18"].pretrained.revision
    # The image is padded to 64 x 64.
    assert encoder["multiply_adds"] * 12.25 == pytest.approx(1.814e9, rel=1e-3)
    assert (printed["height"], printed["width"], printed["classes"]) == (33, 47, 3)


def test_markdown(capsys):
    assert main(["--markdown", "resnet18", "mobilenetv3_large_100", "--size", "64", "96"]) == 0
    header, line, resnet, mobilenet = capsys.readouterr().out.splitlines()
    assert header == "| encoder | parameters | GFLOPs | output strides | weights | license of the weights |"
    assert line == "| --- | ---: | ---: | --- | --- | --- |"
    # Twice the 0.22 GMACs of the text.
    assert resnet.startswith("| `resnet18` | 11.18 M | 0.44 | 8, 16, 32 | [smp-hub/resnet18.imagenet](https://")
    assert resnet.endswith("| see repository |") and mobilenet.endswith("_100.ra_in1k) | apache-2.0 |")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["resnet18", "resnet43"],
            "NAME = 'resnet43': no architecture or encoder has this name; did you mean 'resnet34'?",
        ),
        (["--size", "0", "5"], "--size = 0: must be an integer of at least 1"),
        (["--classes", "0"], "--classes = 0: must be an integer of at least 1"),
        (["unet", "--encoder", "resnet43"], "did you mean 'resnet34'?"),
    ],
)
def test_wrong_arguments_are_named(words, message, capsys):
    assert main(words) == 1
    printed = capsys.readouterr()
    assert message in printed.err and not printed.out


def test_no_device_is_initialized():
    program = """
import jax._src.xla_bridge as bridge
from flaxseg.models.__main__ import main
main(["deeplabv3plus", "mit_b0"])
print(bridge.backends_are_initialized())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("False\n") and not done.stderr
