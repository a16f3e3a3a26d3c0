"""The state that a run starts from: its own checkpoint, another run, a file of weights, or initial values."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from representatives import representatives

from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError, WeightsError
from flaxseg.models.pretrained import load as load_module
from flaxseg.models.pretrained.load import load_pretrained
from flaxseg.train.build import build
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.state import load_source, load_weights, restore_or_create

OVERRIDES = ["train.steps=2", "optimizer.warmup_steps=0", "optimizer.ema_decay=0.5", "log.images=0", "mesh.data=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the configuration, directory and final state of a small run."""
    config, workdir = load_config("configs/shapes.py:tiny", OVERRIDES), tmp_path_factory.mktemp("run")
    return config, workdir, jax.device_get(train_and_evaluate(config, workdir).state)


def variables_of(state):
    return {"params": state.params, "batch_stats": state.batch_stats}


@pytest.mark.parametrize("place", representatives(["", "checkpoints", "checkpoints/2"], ["checkpoints"]))
def test_a_new_run_starts_from_the_moving_average_of_another(run, place, tmp_path):
    config, workdir, ended = run
    config = config.copy_and_resolve_references()
    config.seed, config.model.pretrained = 1, str(workdir / place)
    with Checkpoints(tmp_path, keep=1, best_metric="miou") as checkpoints:
        run = build(config)
        state = jax.device_get(restore_or_create(run, checkpoints, lambda: load_weights(run)))
    assert state.step == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, ended.ema_params)
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, ended.ema_params)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, ended.batch_stats)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


def test_load_pretrained_takes_the_directory_of_a_run(run):
    _, workdir, ended = run
    found = load_pretrained(variables_of(ended), build(run[0]).model.module, str(workdir))
    jax.tree.map(np.testing.assert_array_equal, found, {"params": ended.ema_params, "batch_stats": ended.batch_stats})


def test_weights_of_another_network_are_refused_before_anything_is_written(run, tmp_path):
    config, workdir, _ = run
    config = config.copy_and_resolve_references()
    config.model.options.width, config.model.pretrained = 8, str(workdir)
    with pytest.raises(WeightsError) as raised:
        train_and_evaluate(config, tmp_path / "new")
    message = str(raised.value)
    assert "params/decoder/level0/block0/conv/kernel (3, 3, 8, 4) in the file, (3, 3, 16, 8) in the network" in message
    assert "Nothing was loaded" in message
    assert not (tmp_path / "new").exists()


def test_partial_loads_the_weights_that_fit(run):
    config, workdir, ended = run
    wider = config.copy_and_resolve_references()
    wider.model.options.max_width = 4
    model, own = build(wider).model.module, variables_of(ended)
    shapes = jax.eval_shape(lambda key: model.init(key, np.zeros((1, 8, 8, 3)), train=False), jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(shapes))
    with pytest.raises(WeightsError, match="partial"):
        load_source(zeros, model, str(workdir))
    found = load_source(zeros, model, str(workdir), partial=True)["params"]
    first, deep = ("encoder", "level0", "block0", "conv", "kernel"), ("encoder", "level1", "block0", "conv", "kernel")
    taken, left, kept = (at(tree, path) for tree, path in ((found, first), (found, deep), (ended.ema_params, first)))
    np.testing.assert_array_equal(taken, kept)
    assert not left.any() and at(own["params"], deep).shape != left.shape


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def test_a_directory_without_a_checkpoint_is_refused(run, tmp_path):
    config, _, ended = run
    with pytest.raises(WeightsError, match="is a directory without a checkpoint; give the --workdir of a run"):
        load_source(variables_of(ended), build(config).model.module, str(tmp_path))


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    config, _, ended = run
    (tmp_path / "state").mkdir()
    with pytest.raises(WeightsError, match="state: this checkpoint cannot be read"):
        load_source(variables_of(ended), build(config).model.module, str(tmp_path))


def test_a_new_run_starts_from_a_file_of_encoder_weights(tmp_path, capsys):
    """Only the encoder is loaded, under torchvision's names; the decoder is initialized from the seed."""
    config = load_config("configs/shapes.py:tiny", OVERRIDES)
    config.model.name = "unet"
    config.model.options = {"encoder": "resnet18", "encoder_depth": 3, "decoder_channels": (8, 8, 8)}
    model = build(config).model.module
    image = np.zeros((1, 32, 32, 3), np.float32)
    new = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(config.seed))
    tensors = {
        "conv1.weight": np.full((64, 3, 7, 7), 0.25, np.float32),
        "bn1.running_mean": np.full(64, 0.5, np.float32),
    }
    safetensors.numpy.save_file(tensors, tmp_path / "encoder.safetensors")
    config.model.pretrained, config.model.pretrained_partial = str(tmp_path / "encoder.safetensors"), True
    with Checkpoints(tmp_path / "checkpoints", keep=1, best_metric="miou") as checkpoints:
        run = build(config)
        state = jax.device_get(restore_or_create(run, checkpoints, lambda: load_weights(run)))
    assert (at(state.params, ("encoder", "stem", "conv", "kernel")) == 0.25).all()
    assert (at(state.ema_params, ("encoder", "stem", "conv", "kernel")) == 0.25).all()
    assert (at(state.batch_stats, ("encoder", "stem", "norm", "mean")) == 0.5).all()
    assert "encoder.safetensors: decoder 0 of 18, encoder 1 of 30, head 0 of 2" in capsys.readouterr().err
    head = ("head", "kernel")
    np.testing.assert_allclose(at(state.params, head), at(new["params"], head), rtol=1e-6)


def test_frozen_parameters_without_weights_are_refused_before_anything_is_written(tmp_path):
    config = load_config("configs/shapes.py:tiny", [*OVERRIDES, "optimizer.freeze=('encoder',)"])
    with pytest.raises(ConfigError, match=r"config.model.pretrained = ''.* config.optimizer.freeze = \('encoder',\)"):
        train_and_evaluate(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_is_loaded_from_a_relative_path(run, tmp_path, monkeypatch):
    config, workdir, _ = run
    config = config.copy_and_resolve_references()
    monkeypatch.chdir(workdir.parent)
    config.model.pretrained = workdir.name
    loaded = load_weights(build(config))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded["params"]))


def test_frozen_parameters_have_to_be_loaded(run):
    config, workdir, _ = run
    config = config.copy_and_resolve_references()
    config.model.pretrained, config.model.pretrained_partial = str(workdir), True
    config.optimizer.freeze = ("encoder",)
    assert load_weights(build(config)) is not None
    config.model.options.width = 6
    message = r"config.optimizer.freeze: covers \d+ parameters that .* has no weights for.*encoder/"
    with pytest.raises(ConfigError, match=message):
        load_weights(build(config))


def test_a_missing_path_is_refused(run):
    config = run[0].copy_and_resolve_references()
    config.model.pretrained = "runs/nothere"
    with pytest.raises(WeightsError, match="config.model.pretrained = 'runs/nothere': there is no file or directory /"):
        load_weights(build(config))


def test_weights_are_read_once(run, tmp_path, monkeypatch):
    config, workdir, _ = run
    config = config.copy_and_resolve_references()
    config.model.pretrained = str(workdir)
    config.train.steps, reads = 1, []
    read = load_module.read_checkpoint
    monkeypatch.setattr(load_module, "read_checkpoint", lambda directory: reads.append(directory) or read(directory))
    train_and_evaluate(config, tmp_path)
    assert len(reads) == 1
