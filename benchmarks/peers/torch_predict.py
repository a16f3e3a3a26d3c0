"""Predicts a folder of images with a network of segmentation_models_pytorch, as one's own script would; prints JSON.

`python benchmarks/predict.py --peer PYTHON` runs this in turn with flaxseg, on the same images; PYTHON has torch,
segmentation_models_pytorch, OpenCV and Pillow. A DataLoader decodes and resizes in worker processes, the logits are
resized to each image's own size, and threads write the most likely classes as PNG files with a palette.
"""

import argparse
import concurrent.futures
import json
import os
import resource
import time
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png")


class Images(torch.utils.data.Dataset):
    """The images of a folder at one size, and their own sizes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, tuple[int, int], str]:
        image = cv2.cvtColor(cv2.imread(str(self.paths[index])), cv2.COLOR_BGR2RGB)
        resized = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return resized, image.shape[:2], self.paths[index].stem


def write(path: Path, label: np.ndarray, palette: list[int]) -> None:
    """Writes class indices as a PNG file."""
    mask = Image.fromarray(label)
    mask.putpalette(palette)
    mask.save(path, compress_level=3)


def predict(net: torch.nn.Module, loader: torch.utils.data.DataLoader, output: Path, threads: int) -> None:
    """Predicts all images and writes their masks."""
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) * 255 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    palette = np.random.default_rng(0).integers(0, 256, 9).tolist()
    with torch.inference_mode(), concurrent.futures.ThreadPoolExecutor(threads) as pool:
        written = []
        for images, sizes, stems in loader:
            x = (images.permute(0, 3, 1, 2).float() - mean) / std
            logits = net(x.contiguous(memory_format=torch.channels_last))
            for one, size, stem in zip(logits, sizes, stems, strict=True):
                full = torch.nn.functional.interpolate(one[None], size, mode="bilinear", align_corners=False)
                label = full[0].argmax(0).to(torch.uint8).numpy()
                written.append(pool.submit(write, output / f"{stem}.png", label, palette))
        for future in written:
            future.result()


def main() -> None:
    """Prints the seconds of one pass after a warm-up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="unet", help="unet, linknet, ... (default: unet)")
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=1)
    arguments = parser.parse_args()
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    net = smp.create_model(arguments.model, encoder_name=arguments.encoder, encoder_weights=None, classes=3)
    net = net.eval().to(memory_format=torch.channels_last)
    images = Images(arguments.input, arguments.size)
    first = torch.utils.data.Subset(images, range(min(2 * arguments.batch_size, len(images))))
    arguments.output.mkdir(parents=True, exist_ok=True)

    def collate(examples: list[tuple[np.ndarray, tuple[int, int], str]]) -> tuple[torch.Tensor, list, list]:
        pixels, sizes, stems = zip(*examples, strict=True)
        return torch.from_numpy(np.stack(pixels)), list(sizes), list(stems)

    def loader(dataset: torch.utils.data.Dataset) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(dataset, arguments.batch_size, num_workers=threads, collate_fn=collate)

    predict(net, loader(first), arguments.output, threads)
    wall, own = time.perf_counter(), time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    predict(net, loader(images), arguments.output, threads)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() - own + after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    print(json.dumps({"images": len(images), "wall": time.perf_counter() - wall, "cpu": cpu}))


if __name__ == "__main__":
    main()
