"""The part of a model card that shows how the exported files are used."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxseg.deploy.program import stride_of
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.forward import padding_value


def usage(given: ModelDescription, report: Mapping[str, Any]) -> str:
    """Returns the section of the model card that says how each file is used.

    Args:
      given: the exported network.
      report: what `export_network` returns.
    """
    parts = ["## Use"]
    (height, width), model = given.image_size, given.build()
    fill = round(float(np.mean(padding_value(model, given.channels))), 3)
    own_size = "their own size" if given.scale == 1 else f"{given.scale:g} times their own size"
    values = {"height": height, "width": width, "scale": given.scale, "own_size": own_size, "stride": stride_of(model)}
    prepare = _PHOTO + (_STRETCH if given.resize == "stretch" else _KEEP).format(**values, fill=fill)
    for name, entry in report["formats"].items():
        is_photo = given.channels == 3
        code = _USAGE[name].format(
            output=entry["output"],
            pillow=_PILLOW if is_photo else "",
            prepare=prepare if is_photo else _ANY,
            finish=_finish(entry["output"], given) if is_photo else "",
            image='"photo.jpg"' if is_photo else "image",
        )
        parts.append(f"`{entry['file']}`:\n\n```python\n{code}```")
        if name != "safetensors":
            program = report["input"]
            parts.append(
                f"The input is `{program['layout']}` with values {program['values']}; the output is the "
                f"{entry['output']}. Height and width: {entry['image_size']}."
            )
    return "\n\n".join(parts)


_USAGE = {
    "safetensors": """\
import flaxseg

model = flaxseg.load("FOLDER")
mask = model({image})  # uint8[H, W], class indices
""",
    "stablehlo": """\
import jax
import numpy as np
from jax import export
{pillow}
{prepare}
# The file is the whole program: only JAX is needed to run it.
with open("FOLDER/model.stablehlo", "rb") as file:
    predict = jax.jit(export.deserialize(bytearray(file.read())).call)
{output} = np.asarray(predict(image[None]))
{finish}""",
    "onnx": """\
import numpy as np
import onnxruntime
{pillow}
{prepare}
session = onnxruntime.InferenceSession("FOLDER/model.onnx")
({output},) = session.run(None, {{"image": image[None]}})
{finish}""",
}

_PILLOW = """\
from PIL import Image
"""

_PHOTO = """\
photo = Image.open("photo.jpg").convert("RGB")
"""

_STRETCH = """\
# The network was trained on images of one size: the photo is resized to it, and the result back to that of the photo.
# Pillow shrinks photos slightly differently: few pixels, 0.2 % in a test, get another class than by `flaxseg.load`.
image = np.asarray(photo.resize(({width}, {height}), Image.Resampling.BILINEAR), np.float32)
"""

_KEEP = """\
# The network was trained on images at {own_size}. The padding is cropped from the result.
width, height = round(photo.width * {scale:g}), round(photo.height * {scale:g})
image = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR), np.float32)
image = np.pad(image, ((0, -height % {stride}), (0, -width % {stride}), (0, 0)), constant_values={fill})
"""

_CROP = """\
{output} = {output}[:, :height, :width]
"""

_MASK = """\
planes = map(Image.fromarray, np.moveaxis({output}[0], -1, 0))
planes = [plane.resize(photo.size, Image.Resampling.BILINEAR) for plane in planes]
mask = np.argmax(planes, axis=0).astype(np.uint8)  # uint8[height, width] of the photo, class indices
"""

_MASK_OF_CLASSES = """\
mask = np.asarray(Image.fromarray(classes[0]).resize(photo.size, Image.Resampling.NEAREST))  # uint8[height, width]
"""

_ANY = """\
image = ...  # float32[height, width, channels]
"""


def _finish(output: str, given: ModelDescription) -> str:
    """Returns the lines that make a mask, at the photo's own size, of a program's output."""
    mask = _MASK_OF_CLASSES if output == "classes" else _MASK
    return ("" if given.resize == "stretch" else _CROP).format(output=output) + mask.format(output=output)
