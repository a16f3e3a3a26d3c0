"""The contract of every source and every wrapper: each method of Source, on the same eight examples."""

import functools
import inspect
import io
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow_datasets
from list_source import ListSource
from PIL import Image

from flaxseg.data import (
    MappedSource,
    SegmentationDataset,
    SortedSource,
    Source,
    SourceWrapper,
    folder,
    shapes,
    sort_by_id,
    tfds,
)
from flaxseg.data.bad_examples import BadExamples, SkippingSource
from flaxseg.data.datasets.shapes import ShapesSource
from flaxseg.data.sources import pair_source, prepared
from flaxseg.data.sources.pair_source import PairSource
from flaxseg.data.sources.prepared import PreparedSource
from flaxseg.data.sources.wrappers import SizeRecorder, record_sizes
from flaxseg.errors import ArgumentError

COUNT = 8
SIZE = (40, 48)
ORIENTATIONS = (1, 6, 1, 3, 1, 1, 8, 1)


def encode(array: np.ndarray, file_format: str, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, file_format, exif=exif)
    return buffer.getvalue()


def encoded_pair(number: int) -> tuple[bytes, bytes]:
    """Returns a JPEG with an EXIF orientation, and a PNG mask for the upright image."""
    rng = np.random.default_rng(number)
    orientation = ORIENTATIONS[number % COUNT]
    mask = rng.integers(0, 3, SIZE[::-1] if orientation in (6, 8) else SIZE, dtype=np.uint8)
    return encode(rng.integers(0, 256, (*SIZE, 3), np.uint8), "JPEG", orientation), encode(mask, "PNG")


class Scenes(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """The pairs 0..7 in `train`, and 8..15 in `other`."""

    pkg_dir_path = pathlib.Path(__file__).parent
    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _info(self):
        kinds = tensorflow_datasets.features
        features = {"image": kinds.Image(), "mask": kinds.Image(shape=(None, None, 1)), "file": kinds.Text()}
        return tensorflow_datasets.core.DatasetInfo(builder=self, features=kinds.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(COUNT)), "other": self._generate_examples(range(COUNT, 16))}

    def _generate_examples(self, numbers):
        for number in numbers:
            image, mask = encoded_pair(number)
            yield number, {"image": io.BytesIO(image), "mask": io.BytesIO(mask), "file": f"{number:02}.jpg"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the pairs 0..7 in `train/`, 8..15 in `other/`, and both splits as a prepared dataset."""
    root = tmp_path_factory.mktemp("sources")
    Scenes(data_dir=root, file_format="array_record").download_and_prepare()
    for number in range(2 * COUNT):
        split = "train" if number < COUNT else "other"
        for part, suffix, content in zip(("images", "masks"), ("jpg", "png"), encoded_pair(number), strict=True):
            path = root / part / split / f"{number:02}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def from_pairs(root: pathlib.Path, split: str) -> Source:
    return folder(split, data_dir=str(root), images="images/{split}", masks="masks/{split}", values=(0, 1, 2)).source


def from_records(root: pathlib.Path, split: str) -> Source:
    options = {"image_key": "image", "mask_key": "mask", "id_key": "file", "values": (0, 1, 2)}
    return tfds(split, data_dir=str(root), name="scenes", **options).source


def generated(root: pathlib.Path, split: str) -> Source:
    return shapes("train" if split == "train" else "val", count=COUNT, size=SIZE).source


def mapped(root: pathlib.Path, split: str) -> Source:
    return MappedSource(from_pairs(root, split), map_label=lambda label: label + 1, map_id=lambda stem: f"{stem}!")


def skipping(root: pathlib.Path, split: str) -> Source:
    return SkippingSource(from_pairs(root, split), BadExamples(0, print), split)


SOURCES: dict[type[Source], Callable[[pathlib.Path, str], Source]] = {
    PairSource: from_pairs,
    PreparedSource: from_records,
    ShapesSource: generated,
    SourceWrapper: lambda root, split: SourceWrapper(from_pairs(root, split)),
    MappedSource: mapped,
    SkippingSource: skipping,
    SortedSource: lambda root, split: sort_by_id(from_records(root, split)),
    SizeRecorder: lambda root, split: record_sizes(from_pairs(root, split)),
}
WITHOUT_EXIF = {ShapesSource}


@pytest.fixture(params=SOURCES, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Source]:
    return request.param


@pytest.fixture
def make(kind: type[Source], root: pathlib.Path) -> Callable[..., Source]:
    return functools.partial(SOURCES[kind], root)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all images that are decoded during the test."""
    names: list[str] = []
    for module in (pair_source, prepared):
        for function in ("decode_reduced", "decode_label"):
            original = getattr(module, function)
            monkeypatch.setattr(
                module, function, lambda *a, _original=original, **k: names.append(k["name"]) or _original(*a, **k)
            )
    return names


def subclasses(kind: type) -> set[type]:
    found = {kind}.union(*(subclasses(subclass) for subclass in kind.__subclasses__()))
    return {subclass for subclass in found if subclass.__module__.startswith("flaxseg.")}


def test_every_source_of_the_package_is_tested() -> None:
    assert {source for source in subclasses(Source) if not inspect.isabstract(source)} == set(SOURCES)


def assert_equal(example: dict, other: dict) -> None:
    assert example["id"] == other["id"]
    np.testing.assert_array_equal(example["image"], other["image"])
    np.testing.assert_array_equal(example["label"], other["label"])


def test_examples_have_a_length_and_are_repeatable(kind: type[Source], make) -> None:
    source, again = make("train"), make("train")
    assert type(source) is kind and len(source) == COUNT
    for index in range(COUNT):
        example = source[index]
        assert example["image"].dtype == example["label"].dtype == np.uint8
        assert example["image"].shape == (*example["label"].shape, 3)
        assert_equal(example, source[index])
        assert_equal(example, again[index])


def test_ids_and_digests_decode_no_image(make, decoded: list[str]) -> None:
    source = make("train")
    opened = len(decoded)
    ids = [source.example_id(index) for index in range(COUNT)]
    assert source.digest() and len(decoded) == opened
    assert ids == [source[index]["id"] for index in range(COUNT)] and len(set(ids)) == COUNT


def test_digests_are_equal_for_equal_examples_only(make) -> None:
    assert make("train").digest() == make("train").digest() != make("other").digest()


def test_exif_orientations_are_those_of_the_files(kind: type[Source], make, decoded: list[str]) -> None:
    source = make("train")
    opened = len(decoded)
    found = {source.example_id(index).strip("!"): source.exif_orientation(index) for index in range(COUNT)}
    assert len(decoded) == opened
    if kind in WITHOUT_EXIF:
        assert set(found.values()) == {1}
    else:
        assert found == {f"{number:02}": orientation for number, orientation in enumerate(ORIENTATIONS)}


def test_a_reduced_source_keeps_everything_but_the_size_of_its_images(kind: type[Source], make) -> None:
    source = make("train")
    small = source.reduced((20, 20))
    assert type(small) is kind and len(small) == COUNT and small.digest() == source.digest()
    for index in range(COUNT):
        example, reduced = source[index], small[index]
        np.testing.assert_array_equal(reduced["label"], example["label"])
        assert reduced["id"] == small.example_id(index) == example["id"]
        assert small.exif_orientation(index) == source.exif_orientation(index)
        expected = example["image"].shape if kind in WITHOUT_EXIF else np.divide(example["image"].shape, (2, 2, 1))
        np.testing.assert_array_equal(reduced["image"].shape, expected)


def test_the_order_is_part_of_the_digest(root: pathlib.Path) -> None:
    pairs, records = from_pairs(root, "train"), from_records(root, "train")
    assert records.digest() != from_records(root, "train[4:]+train[:4]").digest()
    # Sorted, the prepared dataset has the examples of the folder in the same order.
    assert sort_by_id(records).digest() == sort_by_id(pairs).digest() == pairs.digest()
    assert [sort_by_id(records).example_id(index) for index in range(COUNT)] == [f"{n:02}" for n in range(COUNT)]


def test_a_moved_dataset_has_the_same_digest(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(root)
    for make in (from_pairs, from_records):
        assert make(moved, "train").digest() == make(root, "train").digest()


class Recorder(Source):
    """Records the method calls that reach it."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def __len__(self) -> int:
        self.calls.append("__len__")
        return 3

    def __getitem__(self, index: int, /) -> dict:
        self.calls.append("__getitem__")
        return {"image": np.zeros((2, 2, 3), np.uint8), "label": np.zeros((2, 2), np.uint8), "id": str(index)}

    def example_id(self, index: int) -> str:
        self.calls.append("example_id")
        return str(index)

    def digest(self) -> str:
        self.calls.append("digest")
        return "d"

    def exif_orientation(self, index: int) -> int:
        self.calls.append("exif_orientation")
        return 2

    def reduced(self, size: tuple[int, int]) -> "Recorder":
        self.calls.append("reduced")
        return Recorder(self.calls)


WRAPPERS: dict[type[SourceWrapper], Callable[[Source], SourceWrapper]] = {
    SourceWrapper: SourceWrapper,
    MappedSource: lambda source: MappedSource(source, map_id=str.upper),
    SkippingSource: lambda source: SkippingSource(source, BadExamples(0, print), "train"),
    SortedSource: sort_by_id,
    SizeRecorder: record_sizes,
}
ARGUMENTS = {"__len__": (), "__getitem__": (1,), "example_id": (1,), "digest": (), "exif_orientation": (1,),
             "reduced": ((1, 1),)}  # fmt: skip
ANSWERED_ITSELF = {(SortedSource, "example_id"), (SortedSource, "digest")}
"""Methods whose results a wrapper has stored."""


def test_every_method_and_every_wrapper_is_tested() -> None:
    methods = {name for name, value in vars(Source).items() if inspect.isfunction(value)}
    assert methods == set(ARGUMENTS)
    assert methods == {name for name, value in vars(SourceWrapper).items() if inspect.isfunction(value)} & methods
    assert subclasses(SourceWrapper) == set(WRAPPERS)


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: wrapper.__name__)
@pytest.mark.parametrize("method", ARGUMENTS)
def test_wrappers_delegate_every_method(wrapper: type[SourceWrapper], method: str) -> None:
    calls: list[str] = []
    source, wrapped = Recorder(calls), WRAPPERS[wrapper](Recorder(calls))
    expected = getattr(source, method)(*ARGUMENTS[method])
    calls.clear()
    result = getattr(wrapped, method)(*ARGUMENTS[method])
    assert (method in calls) != ((wrapper, method) in ANSWERED_ITSELF)
    if method == "reduced":
        assert type(result) is wrapper and isinstance(result.source, Recorder) and result.source is not wrapped.source
    elif method == "__getitem__":
        assert_equal(result, expected)
    elif (wrapper, method) != (SortedSource, "digest"):
        assert result == expected


def test_a_source_of_your_own_needs_a_length_and_examples() -> None:
    source = ListSource([{"image": np.zeros((4, 4, 3), np.uint8), "label": np.zeros((4, 4), np.uint8), "id": "a"}])
    assert (source.example_id(0), source.digest(), source.exif_orientation(0)) == ("a", "", 1)
    assert source.reduced((1, 1)) is source
    with pytest.raises(TypeError, match="abstract"):
        type("Incomplete", (Source,), {"__len__": lambda self: 0})()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": [1, 2]}, "source = <class 'list'>: must be an instance of a subclass of flaxseg.data.Source"),
        ({"num_classes": 256}, "num_classes = 256: must be an integer from 1 to 255"),
        ({"num_classes": 0}, "num_classes = 0: must be an integer from 1 to 255"),
        ({"class_names": ("a",)}, r"class_names = \('a',\): has 1 value for 2 classes; give one per class"),
        ({"class_names": ("a", "a")}, "repeats a; give each class its own name"),
        ({"palette": ()}, r"palette = \(\): has 0 values for 2 classes"),
    ],
)
def test_the_parts_of_a_dataset_are_checked(changed: dict, message: str) -> None:
    parts = {"source": ListSource(), "num_classes": 2, "class_names": ("a", "b"), "palette": ((0, 0, 0), (1, 1, 1))}
    with pytest.raises(ArgumentError, match=message):
        SegmentationDataset(**{**parts, **changed})


def test_a_dataset_is_a_sequence_of_its_examples_described_in_a_line() -> None:
    examples = [{"image": np.zeros((1, 1, 3), np.uint8), "label": np.zeros((1, 1), np.uint8), "id": id} for id in "xyz"]
    names = tuple("abcdefghi")
    dataset = SegmentationDataset(ListSource(examples), 9, names, ((0, 0, 0),) * 9)
    assert len(dataset) == 3 and [each["id"] for each in dataset] == [*"xyz"]
    assert (dataset[1]["id"], dataset[-1]["id"], dataset[-3]["id"]) == ("y", "z", "x")
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"the dataset has 3 examples, but the index is {index}"):
            dataset[index]
    assert dataset.__repr__().startswith("SegmentationDataset(3 examples, 9 classes: a, b, c, d, e, f, g, h, ...; ")
    empty = SegmentationDataset(ListSource(), 1, ("a",), ((0, 0, 0),))
    assert len(empty) == 0 and empty


def test_a_long_description_of_a_source_is_its_type() -> None:
    class Long(ListSource):
        def __repr__(self) -> str:
            return "x" * 200

    assert repr(SegmentationDataset(Long(), 1, ("a",), ((0, 0, 0),))) == (
        "SegmentationDataset(0 examples, 1 classes: a; Long)"
    )
