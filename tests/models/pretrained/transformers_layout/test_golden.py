"""Networks give the logits of transformers, which are stored in small files; see `public_golden.py`."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from compare import TOLERANCE, difference
from flax import traverse_util
from public_cases import GOLDEN, sizes_of, value_of
from public_repositories import write_repository
from references import image
from representatives import representatives

from flaxseg.deploy.saved import read_model
from flaxseg.errors import WeightsError
from flaxseg.models import build_model
from flaxseg.models.pretrained.public_source import open_public
from flaxseg.models.pretrained.transformers_layout import READERS
from flaxseg.models.pretrained.transformers_layout.upernet import BACKBONES

FOLDER = Path(__file__).parent / "golden"
QUICK = {"hf_eomt"}
"""Cases that the ordinary tests compare; the others take longer to compile."""


def golden_of(case):
    return np.load(FOLDER / f"{case}.npz")


def zeros(name, shape):
    return np.zeros(shape, np.float16)


def write(folder, case, value):
    """Writes the folder of a network, whose tensors have the values that a function of name and shape returns."""
    golden = golden_of(case)
    names, shapes = str(golden["names"]).split("\n"), json.loads(str(golden["shapes"]))
    tensors = {name: value(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True)}
    return write_repository(folder, json.loads(str(golden["config"])), tensors)


def test_every_type_is_compared():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(GOLDEN)
    configs = [json.loads(str(np.load(FOLDER / f"{case}.npz")["config"])) for case in GOLDEN]
    assert {config["model_type"] for config in configs} == set(READERS)
    backbones = [config["backbone_config"]["model_type"] for config in configs if config["model_type"] == "upernet"]
    assert set(backbones) == set(BACKBONES)


@pytest.mark.parametrize("case", representatives(GOLDEN, QUICK))
def test_logits_match_the_reference(case, tmp_path):
    saved = read_model(write(tmp_path, case, value_of))
    images = image(sizes_of(case)[0], saved.description.channels)
    logits = jax.jit(functools.partial(saved.model.apply, train=False))(saved.variables, images)
    assert difference(np.asarray(logits)[:, ::6, ::6], golden_of(case)["logits"]) < TOLERANCE


@pytest.mark.parametrize("case", representatives(GOLDEN, QUICK))
def test_every_tensor_has_a_place(case, tmp_path):
    public = open_public(write(tmp_path, case, zeros))
    layout = public.layout
    model = build_model(layout.name, num_classes=layout.num_classes, **layout.options)
    shape = jax.ShapeDtypeStruct((1, *sizes_of(case)[0], layout.channels), np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), shape)
    kept = {name: shapes[name] for name in ("params", "batch_stats") if name in shapes}
    arrays, unknown = public.arrays(model)
    assert not unknown
    expected = {path: value.shape for path, value in traverse_util.flatten_dict(kept, sep="/").items()}
    assert {path: value.shape for path, value in arrays.items()} == expected


def test_an_eomt_whose_attention_is_masked_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="attn_mask_probs is not 0, so that transformers would mask the attention"):
        read_model(write(tmp_path, "hf_eomt", lambda name, shape: np.ones(shape, np.float16)))
