"""Networks of transformers with a vision transformer have every tensor in its place, and compute the same logits."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from compare import TOLERANCE, difference
from flax import traverse_util
from public_cases import GOLDEN, sizes_of
from public_repositories import write_repository
from references import image, tensor

from flaxseg.deploy.saved import read_model
from flaxseg.errors import WeightsError
from flaxseg.models import build_model
from flaxseg.models.pretrained.public_source import open_public

FOLDER = Path(__file__).parents[1] / "golden_public"
MASKING = "attn_mask_probs"


def tensors_of(golden, value):
    names, shapes = str(golden["names"]).split("\n"), json.loads(str(golden["shapes"]))
    found = {name: value(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True)}
    return found | ({MASKING: np.zeros_like(found[MASKING])} if MASKING in found else {})


def zeros(name, shape):
    del name
    return np.zeros(shape, np.float16)


def write(folder, case, value=zeros, **changes):
    golden = np.load(FOLDER / f"{case}.npz")
    return write_repository(folder, json.loads(str(golden["config"])), tensors_of(golden, value) | changes)


@pytest.mark.long
@pytest.mark.parametrize("case", GOLDEN)
def test_a_folder_computes_the_logits_of_transformers(tmp_path, case):
    saved = read_model(write(tmp_path, case, functools.partial(tensor, gain=1.0)))
    images = image(sizes_of(case)[0], saved.description.channels)
    logits = jax.jit(lambda x: saved.model.apply(saved.variables, x, train=False))(images)
    assert difference(np.asarray(logits)[:, ::8, ::8], np.load(FOLDER / f"{case}.npz")["logits"]) < TOLERANCE


@pytest.mark.parametrize("case", GOLDEN)
def test_every_tensor_has_a_place(tmp_path, case):
    public = open_public(write(tmp_path, case))
    layout = public.layout
    model = build_model(layout.name, num_classes=layout.num_classes, **layout.options)
    shape = jax.ShapeDtypeStruct((1, *sizes_of(case)[0], layout.channels), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), shape)
    wanted = traverse_util.flatten_dict(
        {key: shapes[key] for key in ("params", "batch_stats") if key in shapes}, sep="/"
    )
    arrays, unknown = public.arrays(model)
    assert not unknown
    assert {path: value.shape for path, value in arrays.items()} == {path: each.shape for path, each in wanted.items()}


def test_every_golden_file_is_one_of_a_case():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(GOLDEN)


def test_an_eomt_whose_attention_is_masked_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="attn_mask_probs is not 0, so that transformers would mask the attention"):
        read_model(write(tmp_path, "hf_eomt", attn_mask_probs=np.full(3, 0.5, np.float32)))


def test_large_images_are_predicted_in_tiles_of_the_size_that_an_eomt_was_trained_on(tmp_path):
    described = read_model(write(tmp_path, "hf_eomt")).description
    assert (described.image_size, described.resize) == ((128, 128), "keep")
