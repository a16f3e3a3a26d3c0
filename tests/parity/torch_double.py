"""Logits and gradients of PyTorch's networks in float64; requires PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from differences import sampled
from references import bright_image, image_label, label
from torch import nn

Outputs = tuple[list[torch.Tensor], list[torch.Tensor]]
"""Logits of pixels at the image's size, those of the network's main head first; and logits of whole images."""

_RATES = (
    *("drop_prob", "drop_path_rate", "drop_connect_rate", "_drop_connect_rate", "drop_rate"),
    *("dropout", "dropout_prob", "attention_dropout", "hidden_dropout"),
)


def _hard_sigmoid(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return nn.functional.relu6(x + 3) / 6


def _hard_swish(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return x * _hard_sigmoid(x)


# PyTorch's own ones have 1/6 in float32, in float64 too.
nn.functional.hardsigmoid, nn.functional.hardswish = _hard_sigmoid, _hard_swish


def without_dropout(network: nn.Module) -> None:
    """Sets all dropout rates of a network to 0."""
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        for rate in _RATES:
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)


def as_input(images: np.ndarray) -> torch.Tensor:
    """Returns images [B, H, W, C] as float64[B, C, H, W]."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64))


def logits_of(network: nn.Module, x: torch.Tensor, outputs: Callable[[nn.Module, torch.Tensor], Outputs]) -> np.ndarray:
    """Returns the logits of the network's main head, float64[B, H, W, classes]."""
    with torch.no_grad():
        return outputs(network, x)[0][0].numpy().transpose(0, 2, 3, 1)


def gradients_of(
    network: nn.Module, x: torch.Tensor, outputs: Callable[[nn.Module, torch.Tensor], Outputs]
) -> dict[str, np.ndarray]:
    """Returns the gradient of the sum of all heads' cross-entropies for each parameter, by its name.

    The gradient of a parameter that does not contribute is 0.
    """
    maps, of_images = outputs(network, x)
    # The second class of a network with one is the background, with a logit of 0.
    maps = [torch.cat([torch.zeros_like(each), each], 1) if each.shape[1] == 1 else each for each in maps]
    pixels, batch = maps[0].shape[2:], len(x)
    loss: Any = 0.0
    for each in maps:
        target = torch.from_numpy(label((pixels[0], pixels[1]), each.shape[1], batch)).long()
        loss = loss + nn.functional.cross_entropy(each, target)
    for each in of_images:
        loss = loss + nn.functional.cross_entropy(each, torch.from_numpy(image_label(each.shape[1], batch)).long())
    names = dict(network.named_parameters())
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return {
        name: np.zeros(tuple(p.shape)) if gradient is None else gradient.numpy()
        for (name, p), gradient in zip(names.items(), found, strict=True)
    }


def double_results(
    network: nn.Module,
    outputs: Callable[[nn.Module, torch.Tensor], Outputs],
    *,
    sizes: tuple[tuple[int, int], ...],
    channels: int = 3,
    train_batch: int | None = 2,
    pad: Callable[[np.ndarray], np.ndarray] = lambda images: images,
    as_saved: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda gradients: gradients,
) -> dict[str, np.ndarray]:
    """Returns a network's logits and samples of its gradients in float64, under the names that `jax_double` compares.

    Args:
      network: the network, which is converted.
      outputs: returns its outputs for an input.
      sizes: heights and widths of the images; gradients are computed for the first.
      channels: the number of channels of the images.
      train_batch: the number of images for gradients in training mode, which are of the first size; None: no gradients
        in training mode.
      pad: prepares images.
      as_saved: returns gradients by the names under which the network's library saves the parameters.
    """
    without_dropout(network.eval())
    network.double()
    first = as_input(pad(bright_image(sizes[0], channels)))
    result = {
        f"double/{h}x{w}": logits_of(network, as_input(pad(bright_image((h, w), channels))), outputs)[:, :h, :w]
        for h, w in sizes
    }
    gradients = gradients_of(network, first, outputs)
    gradients = as_saved(sampled(gradients))
    result |= {f"gradient/{name}": value for name, value in gradients.items()}
    if train_batch is not None:
        network.train()
        x = as_input(pad(bright_image(sizes[0], channels, train_batch)))
        gradients = as_saved(sampled(gradients_of(network, x, outputs)))
        result |= {f"train_gradient/{name}": value for name, value in gradients.items()}
    return result
