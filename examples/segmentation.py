"""The source of segmentation.ipynb; `make notebook` writes the notebook after a change."""

# %% [markdown]
# # Train a network for semantic segmentation
#
# Choose the data, a network and how it is trained in the forms below, and run all cells. As it stands, the notebook trains
# a small U-Net on generated images of discs, squares and triangles, which takes a few minutes on a CPU. For images of your
# own, choose `folder` as `dataset`, and give the `folder`.
#
# - **Colab**: a GPU makes the training much faster (*Runtime > Change runtime type*). Fields are on the right of the code.
# - **Jupyter**: set the values in the cells that begin with `@title`.
#
# Every field sets keys of the configuration, which are those of the command line. An empty field leaves the choice to the
# configuration of the dataset, or to the network.

# %%
# @title Install
requirement = "flaxseg"  # @param ["flaxseg", "flaxseg[cuda12]", "flaxseg[cuda13]", "flaxseg[tpu]", "flaxseg[tensorflow]"] {allow-input: true}
import importlib.util
import subprocess
import sys
from pathlib import Path

if any(importlib.util.find_spec(name) is None for name in ("flaxseg", "jax")):
    # In a clone of the repository, whose folder examples/ holds this notebook, the clone is installed.
    clones = [folder for folder in (Path.cwd(), Path.cwd().parent) if (folder / "flaxseg" / "__init__.py").is_file()]
    source = requirement.replace("flaxseg", str(clones[0]), 1) if clones else requirement
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)
import flaxseg
from flaxseg.notebook import LiveCurves, download, show_short_errors, upload

show_short_errors()
print("flaxseg", flaxseg.__version__)

# %% [markdown]
# ## Settings
#
# `dataset` names a configuration: `oxford_iiit_pet` is downloaded to `folder` (this needs the extra `tensorflow`),
# `cityscapes` and a `folder` of your own lie there, and `shapes` needs none. In Colab, mount your drive first:
# `from google.colab import drive; drive.mount("/content/drive")`.
#
# A folder of your own contains `images/` and `masks/` with files of the same names; where they are called otherwise, name
# them in `image_folder` and `mask_folder`, as in `train/image` and `train/label`. `class_names` are separated by commas.
#
# `resize` stretches images to `image_size`, or keeps their scale and trains on crops of that size.
# `augmentation_strength` goes from 0 (none) to 1: horizontal flips, zoom and colors. Vertical flips and rotations are
# keys for the field `more` below: `augment.flip_vertical=0.5 augment.rotate90=0.75`.

# %%
# @title Data
dataset = "shapes"  # @param ["shapes", "oxford_iiit_pet", "cityscapes", "folder"] {allow-input: true}
folder = ""  # @param {type: "string"}
image_folder = ""  # @param {type: "string"}
mask_folder = ""  # @param {type: "string"}
class_names = ""  # @param {type: "string"}
resize = ""  # @param ["", "stretch", "keep"]
image_size = ""  # @param ["", "64, 64", "128, 128", "256, 256", "512, 512", "512, 1024"] {allow-input: true}
batch_size = ""  # @param ["", "4", "8", "16", "32"] {allow-input: true}
seed = 0  # @param {type: "integer"}
augmentation_strength = ""  # @param ["", "0", "0.25", "0.5", "0.75", "1"] {allow-input: true}

# %% [markdown]
# `flaxseg models` lists all networks and encoders. `encoder` is for networks that can have any encoder, and
# `pretrained` is `imagenet` for the encoder's public weights, the directory of another run, or a public network such as
# `hf:smp-hub/segformer-b0-512x512-ade-160k`, which also decides about the fields above it: leave those empty.

# %%
# @title Network
model = ""  # @param ["", "plain_unet", "attention_unet", "resunet", "unet", "unetplusplus", "fpn", "deeplabv3plus", "pspnet", "segformer", "upernet"] {allow-input: true}
encoder = ""  # @param ["", "resnet18", "resnet34", "resnet50", "efficientnet_b0", "mobilenet_v2", "convnext_tiny", "mit_b0"] {allow-input: true}
depth = ""  # @param ["", "2", "3", "4", "5"] {allow-input: true}
width = ""  # @param ["", "8", "16", "32", "64"] {allow-input: true}
kernel_size = ""  # @param ["", "3", "5", "7"] {allow-input: true}
batch_norm = True  # @param {type: "boolean"}
dropout = ""  # @param ["", "0.1", "0.2", "0.5"] {allow-input: true}
pretrained = ""  # @param ["", "imagenet", "hf:smp-hub/segformer-b0-512x512-ade-160k"] {allow-input: true}
accept_license = False  # @param {type: "boolean"}

# %% [markdown]
# Several losses are added up, as in `cross_entropy + dice`; several metrics and callbacks are separated by commas. A
# callback may be your own: `package.module:function`. The run is kept in `runs/` under its name, or that of the dataset, and
# continues there when the cell is run again; give it another name to train with other settings. `more` takes any other keys
# of the configuration, as in `train.precision=bfloat16 optimizer.schedule=polynomial`. The flags in messages may be pasted
# there as they are: `--config.data.options.values='(0,255)'`.

# %%
# @title Training
loss = ""  # @param ["", "cross_entropy", "dice", "cross_entropy + dice", "focal", "lovasz_softmax", "tversky"] {allow-input: true}
class_weights = ""  # @param ["", "none", "log", "median_frequency", "effective_number"] {allow-input: true}
metrics = ""  # @param ["", "per_image", "boundary", "surface", "calibration", "cross_entropy"] {allow-input: true}
callbacks = ""  # @param ["", "csv", "wandb", "mlflow"] {allow-input: true}
early_stop = ""  # @param ["", "0", "500", "2000"] {allow-input: true}
optimizer = ""  # @param ["", "adamw", "adam", "sgd", "lion", "muon"] {allow-input: true}
learning_rate = ""  # @param ["", "0.003", "0.001", "0.0003", "0.0001"] {allow-input: true}
epochs = ""  # @param ["", "1", "10", "50", "200"] {allow-input: true}
evaluate_every = ""  # @param ["", "0", "100", "500"] {allow-input: true}
run_name = ""  # @param {type: "string"}
more = ""  # @param {type: "string"}

# %% [markdown]
# ## The configuration
#
# The next cell turns the fields into keys, checks all of them, and prints the command that trains the same in a terminal.

# %%
import shlex

from flaxseg.cli import run_name as name_of_run
from flaxseg.config.files import load_config
from flaxseg.config.flags import overrides_in
from flaxseg.config.validate import validate
from flaxseg.models import MODELS
from flaxseg.models.pretrained.public_source import is_public
from flaxseg.registry import look_up, option_names
from flaxseg.train.parts.public_model import with_public_network

file = "pet" if dataset == "oxford_iiit_pet" else dataset
network = model or load_config(file).model.name


def option(*names: str) -> str:
    """Returns the key of the network's option that has one of these names; of the first if it has none."""
    known = option_names(look_up(network, MODELS))
    return "model.options." + next((name for name in names if name in known), names[0])


def names_in(text: str, separator: str = ",") -> tuple[str, ...]:
    """Returns the names in a text such as `per_image, boundary`."""
    return tuple(name.strip() for name in text.split(separator) if name.strip())


normalization = option("norm", "use_batchnorm", "batch_norm")
values: dict[str, object] = {
    "data.dir": folder,
    "data.options.images": image_folder,
    "data.options.masks": mask_folder,
    "data.options.class_names": class_names,
    "data.resize": resize,
    "data.image_size": image_size,
    "train.batch_size": batch_size,
    "seed": seed,
    "model.name": model,
    "model.options": {} if model or (pretrained and is_public(pretrained)) else "",
    "model.options.encoder": encoder,
    option("depth", "encoder_depth"): depth,
    option("width", "decoder_channels", "segmentation_channels"): width,
    option("kernel_size"): kernel_size,
    normalization: "" if batch_norm else "none" if normalization.endswith(".norm") else False,
    option("dropout", "decoder_dropout"): dropout,
    "model.pretrained": pretrained,
    "model.accept_license": accept_license,
    "loss": {} if loss else "",
    **{f"loss.{name}": 1.0 for name in names_in(loss, "+")},
    "class_weights": class_weights,
    "eval.metrics": names_in(metrics) or "",
    "train.callbacks": names_in(callbacks) or "",
    "train.early_stop": early_stop,
    "optimizer.name": optimizer,
    "optimizer.learning_rate": learning_rate,
    "train.epochs": epochs,
    "train.steps": 0 if epochs else "",
    "eval.every": evaluate_every,
}
if augmentation_strength != "":
    strength = float(augmentation_strength)
    values |= {
        "augment.scale": (round(1 - 0.4 * strength, 3), round(1 + 0.6 * strength, 3)),
        "augment.flip": 0.5 if strength else 0.0,
        "augment.brightness": 0.2 * strength,
        "augment.contrast": 0.4 * strength,
        "augment.saturation": 0.4 * strength,
    }
overrides = [f"{key}={value}" for key, value in values.items() if value != ""] + overrides_in(more)
run = run_name or name_of_run(dataset)
workdir = f"runs/{run}"
config = load_config(file, overrides)
validate(with_public_network(config)[0])
flags = [f"--config={file}", f"--workdir={workdir}", *(f"--config.{each}" for each in overrides)]
print("flaxseg train", shlex.join(flags))

# %% [markdown]
# ## Check the data
#
# Every image and mask is read: sizes, classes, files that cannot be used, and settings that would repair what is wrong, to
# paste into `more`. If the dataset cannot be trained on, the cells below are not run.

# %%
from flaxseg.config.flags import flag
from flaxseg.errors import DataError
from flaxseg.inspection.dataset import inspect_dataset
from flaxseg.inspection.from_config import dataset_to_inspect, training_setup
from flaxseg.inspection.report import terminal_text

inspection = inspect_dataset(dataset_to_inspect(config), training_setup(config), title=dataset, max_images=8)
print(terminal_text(inspection, flag))
if not inspection.trainable:
    raise DataError(
        "the dataset cannot be trained on: repair what is listed above, with `more` or in the files, and run all cells "
        "again; the next cell shows the images"
    )

# %% [markdown]
# ## Look at it
#
# Images with their labels, and the first training batch as the network receives it.

# %%
from IPython.display import display
from PIL import Image

for sheet in inspection.sheets[:3]:
    display(Image.fromarray(sheet.pixels))

# %% [markdown]
# ## Train
#
# Stop the cell to stop the training: a checkpoint is saved, and running the cell again resumes it.

# %%
from flaxseg.train.loop import train_and_evaluate

result = train_and_evaluate(config, workdir, callbacks=[LiveCurves()])
print(result.table())

# %%
# @title TensorBoard
show_tensorboard = True  # @param {type: "boolean"}
if show_tensorboard:
    import os
    from pathlib import Path

    from tensorboard import notebook

    # The program beside this notebook's Python, which need not be on the PATH.
    os.environ.setdefault("TENSORBOARD_BINARY", str(Path(sys.executable).with_name("tensorboard")))
    notebook.start(f"--logdir {shlex.quote(workdir)}")

# %% [markdown]
# ## Predictions and confusion matrix
#
# Of the evaluation set, as the run has drawn them at its last evaluation.

# %%
from pathlib import Path

for name in ("predictions", "confusion_matrix"):
    for path in sorted(Path(workdir, "images").glob(f"*_{name}.png"))[-1:]:
        display(Image.open(path))

# %% [markdown]
# ## Save and export
#
# The run is saved already: its checkpoints are in its folder, and `flaxseg.load` opens them. An exported folder is smaller
# and complete in itself; `onnx` needs the extra `onnx`.

# %%
# @title Export
formats = "safetensors"  # @param ["safetensors", "safetensors, stablehlo", "safetensors, onnx"] {allow-input: true}
download_archive = False  # @param {type: "boolean"}
import shutil

from flaxseg.deploy.export_formats import ExportOptions
from flaxseg.deploy.folder import export_network
from flaxseg.deploy.saved import read_model

exported = f"exported/{run}"
export_network(read_model(workdir), exported, ExportOptions(names_in(formats)), say=print)
archive = shutil.make_archive(exported, "zip", exported)
if download_archive:
    download(archive)

# %% [markdown]
# ## Predict an image of your own
#
# Give the path of a file, or leave the field empty to upload one.

# %%
# @title Predict
photo = ""  # @param {type: "string"}
trained = flaxseg.load(exported)


def predict(path: str | Path) -> None:
    """Shows an image with the predicted classes drawn over it, and the area of each class."""
    mask = trained(path)
    display(Image.fromarray(trained.overlay(path)))
    for index, name in enumerate(trained.classes):
        print(f"{100 * (mask == index).mean():6.2f}%  {name}")


if photo:
    predict(photo)
else:
    upload(predict)

# %% [markdown]
# In a program of your own, this is `mask = flaxseg.load("exported/shapes")("photo.png")`. `docs/using.md` has more:
# ensembles, large images, videos, uncertainty; `docs/training.md` describes everything that a run can do.
