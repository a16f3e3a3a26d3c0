"""What settings of other libraries are called here, for the errors about keys and networks that do not exist."""

import re

from flaxseg.models import MODELS, Architecture
from flaxseg.models.encoders import ENCODERS

_CLASSES = (
    "the classes are those of the dataset; for the dataset `folder`, data.options.values, data.options.class_names or "
    "data.options.colors set them"
)
_ENCODER = "the encoder is model.options.encoder"
_CHANNELS = "the number of channels is that of the images"
_LEARNING_RATE = "the learning rate is optimizer.learning_rate"
_LENGTH = "the length of a run is train.epochs or train.steps"

_CALLED_HERE = {
    "num_classes": _CLASSES,
    "classes": _CLASSES,
    "n_classes": _CLASSES,
    "in_channels": _CHANNELS,
    "channels": _CHANNELS,
    "encoder_name": _ENCODER,
    "backbone": _ENCODER,
    "encoder_weights": "initial weights are model.pretrained, as in model.pretrained=imagenet",
    "weights": "initial weights are model.pretrained, as in model.pretrained=imagenet",
    "checkpoint": "initial weights are model.pretrained, the directory of another run or a file",
    "activation": "networks return logits; flaxseg.load applies the softmax for probabilities",
    "lr": _LEARNING_RATE,
    "learning_rate": _LEARNING_RATE,
    "epochs": _LENGTH,
    "num_epochs": _LENGTH,
    "max_epochs": _LENGTH,
    "max_iters": _LENGTH,
    "steps": _LENGTH,
    "batch_size": "the batch size is train.batch_size",
    "num_workers": "the number of threads that read images is data.num_threads",
    "image_size": "the size of images is data.image_size",
    "crop_size": "the size of crops is data.image_size, with data.resize=keep",
    "decoder_use_batchnorm": "leave it out: the normalization of decoders is fixed",
    "momentum": "the momentum is optimizer.options.momentum",
    "wd": "weight decay is optimizer.weight_decay",
    "amp": "mixed precision is train.precision=bfloat16",
    "fp16": "mixed precision is train.precision=bfloat16",
    "ignore_index": "ignored mask values are data.options.ignore_values",
    "output": "the directory of a run is --workdir",
    "gpus": "all devices are used; mesh.data limits their number",
}

_CROSS_ENTROPY = "the loss of the evaluation set is ('cross_entropy',)"
_ALWAYS = "it is among the scores that are always computed"

_MIXED = "mixed precision is bfloat16, with parameters in float32"

OTHER_PRECISIONS = dict.fromkeys(
    ("16-mixed", "bf16-mixed", "16", "bf16", "fp16", "float16", "half", "amp", "mixed", "mixed_bfloat16"), _MIXED
)
"""What an error adds about values of `train.precision` that other libraries have."""

_SCHEDULES = {
    "constantlr": "constant",
    "cosineannealinglr": "cosine",
    "cosinedecay": "cosine",
    "exponentiallr": "exponential",
    "multisteplr": "step",
    "onecyclelr": "one_cycle",
    "poly": "polynomial",
    "polynomiallr": "polynomial",
    "polylr": "polynomial",
    "reducelronplateau": "plateau",
    "steplr": "step",
}
"""The schedules by the names, in lower case, that PyTorch, Keras and MMSegmentation have for them."""

OTHER_METRICS = {
    **dict.fromkeys(("loss", "val_loss", "eval_loss", "validation_loss"), _CROSS_ENTROPY),
    **dict.fromkeys(("miou", "mean_iou", "iou", "dice", "mean_dice", "accuracy", "pixel_accuracy"), _ALWAYS),
}
"""What an error adds about names in `eval.metrics` that are no metrics."""


def called_here(name: str) -> str:
    """Returns what an error adds about a name that other libraries use: `; ` and what is set instead; "" if unknown."""
    return f"; {_CALLED_HERE[name]}" if name in _CALLED_HERE else ""


def schedule_called_here(name: str) -> str:
    """Returns what an error adds about a schedule's name in other libraries; "" if it is none."""
    schedule = _SCHEDULES.get(name.lower())
    return f"; did you mean {schedule!r}?" if schedule else ""


def network_called_here(name: str) -> str:
    """Returns what an error adds about a network's name that is the hub's or torchvision's; "" if it is neither."""
    if _REPOSITORY.fullmatch(name):
        return f"; a public network is --config.model.pretrained=hf:{name.removeprefix('hf:')}, which sets model.name."
    pairs = ((network, encoder) for network in _WITH_ENCODERS for encoder in ENCODERS)
    found = next((pair for pair in pairs if name.lower().replace("-", "_") == "_".join(pair)), None)
    if found is None:
        return ""
    return "; did you mean --config.model.name={} --config.model.options.encoder={}?".format(*found)


_REPOSITORY = re.compile(r"(hf:)?\w[\w.-]*/[\w.-]+(@[\w./-]+)?")
"""The name of a repository of the Hugging Face hub, with or without what model.pretrained puts around it."""

_WITH_ENCODERS = [name for name, entry in MODELS.items() if isinstance(entry, Architecture)]
