"""A dataset of your own: a folder of NPZ files, each with an image and its label.

    python examples/own_dataset.py

A dataset is a function from the name of a split to a `SegmentationDataset`. Its keyword-only arguments are the options
`data.options`, and `data_dir` receives `data.dir`. It needs no registration, only a place on PYTHONPATH:

    PYTHONPATH=examples python -m flaxseg.main --config=folder --config.data.name=own_dataset:npz_files --config.data.dir=DIR
"""  # noqa: E501

from pathlib import Path

import numpy as np

from flaxseg import DataError, SegmentationDataset
from flaxseg.config.files import load_config
from flaxseg.data import IGNORE_LABEL, Example, Source
from flaxseg.train.loop import train_and_evaluate


class NpzFiles(Source):
    """The examples of some files; reading the same index twice returns the same example."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Example:
        """Returns `image`, uint8[H, W, C], and `label`, uint8[H, W]: class indices, or 255 for pixels to ignore."""
        path = self._paths[index]
        try:
            arrays = np.load(path)
            return {"image": arrays["image"], "label": arrays["label"], "id": path.name}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: is not an NPZ file with the arrays image and label ({error})") from error

    def example_id(self, index: int) -> str:
        """Returns the name of an example; without this, its image would be read for it."""
        return self._paths[index].name

    def digest(self) -> str:
        """Returns what a resumed run compares, so that it never continues on other data."""
        return " ".join(path.name for path in self._paths)


def npz_files(split: str, *, data_dir: str, held_out: int = 4) -> SegmentationDataset:
    """Returns a split: every `held_out`-th file is in `val`, and the others are in `train`."""
    paths = sorted(Path(data_dir).glob("*.npz"))
    chosen = [path for number, path in enumerate(paths) if (number % held_out == 0) == (split == "val")]
    if not chosen:
        raise DataError(f"{data_dir}: has no NPZ files for the split {split!r}")
    return SegmentationDataset(NpzFiles(chosen), 2, ("background", "disc"), ((40, 40, 40), (240, 200, 80)))


def write_files(folder: Path, count: int) -> None:
    """Writes images of a bright disc, with a frame of ignored pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:32, :32]
    for index in range(count):
        rng = np.random.default_rng(index)
        center, radius = rng.uniform(8, 24, 2), rng.uniform(4, 9)
        label = ((y - center[0]) ** 2 + (x - center[1]) ** 2 < radius**2).astype(np.uint8)
        image = np.clip(rng.normal(80 + 70 * label[..., None], 25, (32, 32, 3)), 0, 255).astype(np.uint8)
        label[[0, -1]] = label[:, [0, -1]] = IGNORE_LABEL
        np.savez(folder / f"{index:04d}.npz", image=image, label=label)


def main(folder: str = "runs/own_dataset", steps: int = 60) -> float:
    """Writes a few files, trains on them, and returns the mIoU on those that are held out."""
    write_files(Path(folder, "files"), 32)
    values: dict[str, object] = {"data.name": "own_dataset:npz_files", "data.dir": f"{folder}/files"}
    values |= {"data.eval_split": "val", "data.options": {}, "train.steps": steps, "eval.every": steps}
    config = load_config("shapes:tiny", [f"{key}={value}" for key, value in values.items()])
    result = train_and_evaluate(config, f"{folder}/run")
    print(result.table())
    assert result.scores is not None
    return result.scores.compute()["miou"]


if __name__ == "__main__":
    main()
