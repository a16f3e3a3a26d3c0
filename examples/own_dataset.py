"""A dataset of your own: a folder of NPZ files, each with an image and its label.

    python examples/own_dataset.py

A dataset is a function from the name of a split to a `SegmentationDataset`. Its keyword-only arguments are the options
`data.options`, and `data_dir` receives `data.dir`. Where this file is on PYTHONPATH, a configuration names it:

    flaxseg train --config=shapes --config.data.name=own_dataset:npz_files --config.data.dir=DIR
"""

import dataclasses
from pathlib import Path

import numpy as np

from flaxseg import DataError, SegmentationDataset
from flaxseg.config.files import load_config
from flaxseg.data import IGNORE_LABEL, Example, Source
from flaxseg.train.loop import train_and_evaluate


@dataclasses.dataclass(frozen=True)
class NpzFiles(Source):
    """The examples of some files."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        """Returns `image`, uint8[H, W, C], and `label`, uint8[H, W]: class indices, or 255 for pixels to ignore."""
        path = self.paths[index]
        try:
            arrays = np.load(path)
            return {"image": arrays["image"], "label": arrays["label"], "id": path.name}
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise DataError(f"{path}: is not an NPZ file with the arrays image and label ({error})") from error

    def digest(self) -> str:
        """Returns what a resumed run compares, so that it never continues on other data."""
        return " ".join(path.name for path in self.paths)


def npz_files(split: str, *, data_dir: str, held_out: int = 4) -> SegmentationDataset:
    """Returns a split: `train` is without every `held_out`-th file, which are those of the other split."""
    paths = sorted(Path(data_dir).glob("*.npz"))
    chosen = tuple(path for number, path in enumerate(paths) if (number % held_out != 0) == (split == "train"))
    if not chosen:
        raise DataError(f"{data_dir}: has no NPZ files for the split {split!r}")
    return SegmentationDataset(NpzFiles(chosen), 2, ("background", "disc"), ((40, 40, 40), (240, 200, 80)))


def write_files(folder: Path, count: int) -> None:
    """Writes images of a bright disc, with a frame of ignored pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:32, :32]
    for index in range(count):
        rng = np.random.default_rng(index)
        label = (np.hypot(y - rng.uniform(8, 24), x - rng.uniform(8, 24)) < rng.uniform(4, 9)).astype(np.uint8)
        image = np.clip(rng.normal(80 + 70 * label[..., None], 25, (32, 32, 3)), 0, 255).astype(np.uint8)
        label[[0, -1]] = label[:, [0, -1]] = IGNORE_LABEL
        np.savez(folder / f"{index:04d}.npz", image=image, label=label)


def main(folder: str = "runs/own_dataset", steps: int = 60) -> float:
    """Writes a few files, trains on them, and returns the mIoU on those that are held out."""
    write_files(Path(folder, "files"), 32)
    values: dict[str, object] = {"data.name": "own_dataset:npz_files", "data.dir": f"{folder}/files"}
    values |= {"data.options": {}, "train.steps": steps, "eval.every": steps}
    config = load_config("shapes:tiny", [f"{key}={value}" for key, value in values.items()])
    result = train_and_evaluate(config, f"{folder}/run")
    print(result.table())
    return result.scores.compute()["miou"] if result.scores else 0.0


if __name__ == "__main__":
    main()
