"""Networks of one's own loop come back from a folder as the evaluation used them."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flaxseg
from flaxseg import StepOptions, create_train_state, freeze, freezing, load_pretrained, plain_unet, predict_label
from flaxseg.data import shapes
from flaxseg.deploy.save import save
from flaxseg.deploy.saved import read_model
from flaxseg.errors import ArgumentError, ExportError, WeightsError
from flaxseg.inference.description import ModelDescription, read_description, resolved_options
from flaxseg.inference.recipe import recipe_of
from flaxseg.models import MODELS, build_model
from flaxseg.models.encoders import ENCODERS

MODEL = plain_unet(num_classes=5, width=2, depth=1, activation="elu", mean=(1.0, 2.0, 3.0))
NAMES = ("a", "b", "c", "d", "e")
GIVEN = {"model": MODEL, "classes": NAMES, "image_size": (16, 16)}


class Own(nn.Module):
    num_classes: int
    width: int = 2
    mean: float = 127.5
    std: float = 127.5

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Conv(self.num_classes, (1, 1))(nn.relu(nn.Conv(self.width, (1, 1))(x)))


def own(*, num_classes, width=2, dtype=jnp.float32):
    return Own(num_classes, width)


@pytest.fixture(scope="module")
def state():
    """A state whose moving average, parameters and batch statistics are all different, and not those it began with."""
    make = partial(create_train_state, model=MODEL, tx=optax.sgd(0.1), options=StepOptions(ema_decay=0.9))
    found = jax.eval_shape(make, jax.random.key(0), jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.uint8))
    rng = np.random.default_rng(0)
    values = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 1, leaf.shape), leaf.dtype), found)
    return values.replace(step=jnp.int32(7), batch_stats=jax.tree.map(jnp.abs, values.batch_stats))


def test_a_state_comes_back_as_evaluation_uses_it(state, tmp_path):
    frozen = freeze(MODEL, freezing("encoder"))
    assert save(tmp_path / "net", state, **{**GIVEN, "model": frozen}) == tmp_path / "net"
    assert {file.name for file in (tmp_path / "net").iterdir()} == {"model.safetensors", "model.json"}
    saved = read_model(tmp_path / "net")
    assert saved.model == MODEL
    jax.tree.map(np.testing.assert_array_equal, saved.variables["params"], state.ema_params)
    jax.tree.map(np.testing.assert_array_equal, saved.variables["batch_stats"], state.batch_stats)
    weights = str(tmp_path / "net" / "model.safetensors")
    loaded = load_pretrained({"params": state.params, "batch_stats": state.batch_stats}, MODEL, weights)
    jax.tree.map(np.testing.assert_array_equal, loaded["params"], state.ema_params)
    predictor = flaxseg.load(tmp_path / "net", fold=False)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    expected = predict_label(state, image[None], model=MODEL)[0]
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(predictor(image), expected)
    assert predictor.classes == NAMES


def test_the_description_is_that_of_the_data(state, tmp_path):
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    dataset = shapes("test")
    flaxseg.save(tmp_path, variables, model=MODEL, classes=dataset, image_size=[24, 32], scale=0.5)
    jax.tree.map(np.testing.assert_array_equal, read_model(tmp_path).variables["params"], state.params)
    found = read_description(tmp_path / "model.json")
    assert (found.class_names, found.palette) == (dataset.class_names, dataset.palette)
    assert (found.image_size, found.resize, found.scale, found.channels) == ((24, 32), "keep", 0.5, 3)
    assert (found.mean, found.std, found.precision) == ((1.0, 2.0, 3.0), 127.5, "float32")
    save(tmp_path, state, **GIVEN, palette=[(i, i, i) for i in range(5)], overwrite=True)
    found = read_description(tmp_path / "model.json")
    assert (found.palette[4], found.resize, found.scale) == ((4, 4, 4), "stretch", 1.0)
    jax.tree.map(np.testing.assert_array_equal, read_model(tmp_path).variables["params"], state.ema_params)


def test_nothing_is_overwritten_unasked(state, tmp_path):
    save(tmp_path, state, **GIVEN)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ExportError, match="already holds model.safetensors, model.json; .* or overwrite=True to"):
        save(tmp_path, {"params": state.params, "batch_stats": state.batch_stats}, **GIVEN)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ExportError, match="is a run or an exported folder, with checkpoints; give another folder"):
        save(tmp_path, state, **GIVEN, overwrite=True)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    with pytest.raises(ExportError, match=r"model.json: is a file; give a folder"):
        save(tmp_path / "model.json", state, **GIVEN)
    (tmp_path / "model.json").unlink()
    with pytest.raises(WeightsError, match=r"no model.json beside it.* or write both with flaxseg.save"):
        flaxseg.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"classes": NAMES[:4]}, r"^class_names = .*: must be 5 names, one per class"),
        ({"classes": "abcde"}, r"^classes = 'abcde': must be a SegmentationDataset, or a sequence of one name"),
        ({"image_size": 64}, r"^image_size = 64: must be 2 integers: height and width"),
        ({"palette": [(0, 0, 0)]}, r"^palette = .*: must be 5 colors"),
        ({"channels": 1}, r"^state = .* images of 1 channels: .*kernel is \[3, 3, 3, 2\], not \[3, 3, 1"),
        ({"model": plain_unet(num_classes=5, width=2, depth=2)}, r"^state = .*: is not of .* is missing, not"),
        ({"name": "plain_unet", "options": {"width": 2, "depth": 1}}, r"another .*: activation is 'relu', not 'elu'"),
        ({"name": "plain_unet", "options": {"widht": 2}}, r"did you mean 'width'"),
        ({"options": {"width": 2}}, r"^options = .*: are those of a name; give name, too"),
        ({"model": Own(5)}, r"^model = 'Own': no row of .*MODELS .* give name='package.module:function'"),
        ({"model": "plain_unet"}, r"^model = 'plain_unet': must be the network itself"),
    ],
)  # fmt: skip
def test_errors_name_what_does_not_fit(state, tmp_path, changes, problem):
    with pytest.raises(ArgumentError, match=problem):
        save(tmp_path / "net", state, **{**GIVEN, **changes})
    assert not (tmp_path / "net").exists()


def test_a_state_is_no_bare_tree_of_parameters(state, tmp_path):
    with pytest.raises(ArgumentError, match=r"^state = 'a dict of .*': must be a TrainState, or variables: {"):
        save(tmp_path, state.params, **GIVEN)


def test_a_network_of_the_users_own_is_made_by_its_function(tmp_path, monkeypatch):
    model = Own(5, width=3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False)
    name = f"{__name__}:own"
    save(tmp_path, variables, **{**GIVEN, "model": model}, channels=1, name=name, options={"width": 3})
    saved = read_model(tmp_path)
    assert (saved.model, saved.description.name, saved.description.options) == (model, name, {"width": 3})
    jax.tree.map(np.testing.assert_array_equal, saved.variables["params"], dict(variables["params"]))
    with pytest.raises(ArgumentError, match="another network than the one given as model: width is 2, not 3"):
        save(tmp_path, variables, **{**GIVEN, "model": model}, channels=1, name=name, overwrite=True)


def described(network):
    name, options = recipe_of(network)
    fields = {"num_classes": 3, "channels": 3, "image_size": (64, 64), "class_names": NAMES[:3]}
    return ModelDescription(
        name, resolved_options(name, options), **fields, palette=((0, 0, 0),) * 3, mean=network.mean, std=network.std
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_network_can_be_described(name):
    networks = [build_model(name, num_classes=3, mean=(1.0, 2.0, 3.0))]
    if "auxiliary_head" in resolved_options(name, {}):
        networks.append(build_model(name, num_classes=3, auxiliary_head=True))
    for network in networks:
        assert ModelDescription.from_json(described(network).to_json()).build() == network


@pytest.mark.parametrize("name", ENCODERS)
def test_networks_of_every_encoder_can_be_described(name):
    network = build_model("upernet", num_classes=3, encoder=name)
    assert described(network).build() == network


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"encoder": "resnet18", "encoder_depth": 4, "decoder_channels": (64, 32, 16, 8), "attention": "scse"}),
        ("deeplabv3", {"auxiliary_head": True, "auxiliary_channels": 32, "output_stride": 16, "align_corners": False}),
        ("fpn", {"encoder": "mit_b0", "encoder_epsilon": 1e-5, "image_classes": 2}),
        ("plain_unet", {"width": 4, "max_width": 8, "norm": "group", "gate_from": 1, "upsampling": "bilinear"}),
    ],
)
def test_options_are_found(name, options):
    found, values = recipe_of(build_model(name, num_classes=3, **options))
    assert found == name and {key: values[key] for key in options} == options
