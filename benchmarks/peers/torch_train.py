"""Trains a network of segmentation_models_pytorch on a folder of images and masks, as one's own script would.

The peer of end_to_end.py: random zoom, flip, brightness and contrast; AdamW with a linear warm-up and a cosine decay;
after each epoch an evaluation at the images' own resolution, and a checkpoint of the network and the optimizer. The
folder has train/images, train/masks, val/images and val/masks. Prints the scores of each epoch as JSON.
"""

import argparse
import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch_step import build

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
IGNORED = 255


class Pairs(torch.utils.data.Dataset):
    """The normalized images of a split at one size, with their labels: augmented, or at the images' own size."""

    def __init__(self, folder: Path, values: list[int], size: int, augment: bool) -> None:
        self.images = sorted((folder / "images").iterdir())
        self.masks = [folder / "masks" / f"{path.stem}.png" for path in self.images]
        self.size, self.augment = size, augment
        self.table = np.full(256, IGNORED, np.uint8)
        self.table[values] = np.arange(len(values))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        label = self.table[cv2.imread(str(self.masks[index]), cv2.IMREAD_GRAYSCALE)]
        if self.augment:
            image, label = self.augmented(image, label)
        else:
            image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA).astype(np.float32)
        image = ((image - MEAN) / STD).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(label.astype(np.int64))

    def augmented(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns a random crop of the zoomed image, perhaps flipped, with other brightness and contrast."""
        size, random = self.size, np.random.default_rng(torch.initial_seed() + int(torch.randint(2**31, ())))
        zoomed = round(size * random.uniform(1.0, 1.3))
        top, left = random.integers(0, zoomed - size + 1, 2)
        crop = np.s_[top : top + size, left : left + size]
        image = cv2.resize(image, (zoomed, zoomed), interpolation=cv2.INTER_LINEAR)[crop]
        label = cv2.resize(label, (zoomed, zoomed), interpolation=cv2.INTER_NEAREST)[crop]
        if random.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        contrast, brightness = random.uniform(0.8, 1.2), 255 * random.uniform(-0.1, 0.1)
        middle = image.mean(dtype=np.float32)
        image = np.clip((image - middle) * np.float32(contrast) + middle + np.float32(brightness), 0, 255)
        return image, np.ascontiguousarray(label)


def evaluate(net: torch.nn.Module, loader: torch.utils.data.DataLoader, classes: int) -> np.ndarray:
    """Returns the confusion matrix at the images' own resolution; logits are resized bilinearly."""
    counts = np.zeros((classes, classes), np.int64)
    net.eval()
    with torch.inference_mode():
        for images, labels in loader:
            logits = net(images.contiguous(memory_format=torch.channels_last))
            for one, label in zip(logits, labels, strict=True):
                full = torch.nn.functional.interpolate(one[None], label.shape, mode="bilinear", align_corners=False)
                valid = label != IGNORED
                pairs = label[valid] * classes + full[0].argmax(0)[valid]
                counts += np.bincount(pairs.numpy(), minlength=classes**2).reshape(classes, classes)
    return counts


def collate(examples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Returns a batch of images, and their labels, which have different sizes."""
    return torch.stack([image for image, _ in examples]), [label for _, label in examples]


def train(flags: argparse.Namespace) -> None:
    """Trains, evaluates and saves."""
    torch.manual_seed(0)
    classes = len(flags.values)
    net = build(flags.model, flags.encoder, classes).to(memory_format=torch.channels_last)
    sets = {split: Pairs(flags.data / split, flags.values, flags.size, split == "train") for split in ("train", "val")}
    options = {"batch_size": flags.batch, "num_workers": flags.workers, "persistent_workers": flags.workers > 0}
    batches = torch.utils.data.DataLoader(sets["train"], shuffle=True, drop_last=True, **options)
    evaluated = torch.utils.data.DataLoader(sets["val"], collate_fn=collate, **options)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-4)
    total = flags.epochs * len(batches)

    def rate(step: int) -> float:
        if step < flags.warmup:
            return (step + 1) / flags.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - flags.warmup) / max(total - flags.warmup, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    flags.output.mkdir(parents=True, exist_ok=True)
    step = 0
    for epoch in range(flags.epochs):
        net.train()
        for images, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            logits = net(images.contiguous(memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % flags.log == 0:
                print(json.dumps({"step": step, "loss": loss.item()}), flush=True)
        counts = evaluate(net, evaluated, classes)
        union = counts.sum(0) + counts.sum(1) - counts.diagonal()
        iou = counts.diagonal() / np.maximum(union, 1)
        print(json.dumps({"epoch": epoch + 1, "miou": float(iou[union > 0].mean())}), flush=True)
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, flags.output / f"{epoch + 1}.pth")


def main() -> None:
    """Reads the flags, and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the checkpoints")
    parser.add_argument("--values", type=int, nargs="+", required=True, help="mask value of each class")
    parser.add_argument("--model", default="unet")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log", type=int, default=10)
    flags = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    cv2.setNumThreads(1)
    train(flags)


if __name__ == "__main__":
    main()
