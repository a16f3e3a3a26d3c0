"""What is kept, and what comes back."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import CheckpointError
from flaxseg.train import sharding
from flaxseg.train.checkpoints import Checkpoints


def state(value):
    return {"params": {"kernel": jnp.full((4, 8), value), "bias": jnp.full(3, value)}, "ema_params": None}


def like(mesh):
    shapes = jax.eval_shape(lambda: state(0.0))
    placement = sharding.state_sharding(shapes, mesh)
    return jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, placement)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Six checkpoints of which the second is the best, and every other one has no scores."""
    directory = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        for step, miou in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, None), (6, 0.6)):
            checkpoints.save(step, state(float(step)), None if miou is None else {"miou": miou})
    return directory


def test_the_latest_and_the_best_are_kept(saved):
    assert sorted(int(path.name) for path in saved.iterdir()) == [2, 5, 6]
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.latest_step == 6
        assert checkpoints.best_step == 2


def test_any_mesh_restores_what_was_saved(saved):
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        for parts in ({"data": 1}, {"data": 2, "fsdp": 4}):
            restored = checkpoints.restore(like(sharding.make_mesh(**parts)), step=2)
            np.testing.assert_array_equal(restored["params"]["kernel"], np.full((4, 8), 2.0))
            assert restored["params"]["kernel"].sharding.mesh.size == np.prod(list(parts.values()))
            assert restored["ema_params"] is None
        latest = checkpoints.restore_latest(like(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(latest["params"]["bias"], np.full(3, 6.0))


def test_a_step_that_is_there_is_left_alone(saved):
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(6, state(-1.0))
        checkpoints.wait()
        np.testing.assert_array_equal(
            checkpoints.restore_latest(like(sharding.make_mesh()))["params"]["bias"], np.full(3, 6.0)
        )


def test_a_step_that_is_not_there_is_named(saved):
    with (
        Checkpoints(saved, keep=2, best_metric="miou") as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint of step 3; steps there: 2, 5, 6"),
    ):
        checkpoints.restore(like(sharding.make_mesh()), step=3)


def damaged_copy(saved, target, how):
    """A copy of the checkpoints whose latest, 6, is damaged."""
    shutil.copytree(saved, target)
    if how == "empty directory":
        shutil.rmtree(target / "6")
        (target / "6").mkdir()
    elif how == "cut-off metadata":
        metadata = target / "6" / "state" / "_METADATA"
        metadata.write_text(metadata.read_text()[:40])
    else:
        largest = max((target / "6" / "state").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
        largest.write_bytes(b"")
    return target


@pytest.mark.parametrize("how", ["empty directory", "cut-off metadata", "empty file"])
def test_a_damaged_latest_is_set_aside_for_the_one_before(saved, tmp_path, how):
    directory = damaged_copy(saved, tmp_path / "checkpoints", how)
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(like(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 5.0))
        assert checkpoints.latest_step == 5
        checkpoints.save(6, state(60.0), {"miou": 0.1})
    assert (directory / "6.damaged").is_dir()
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        latest = checkpoints.restore_latest(like(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(latest["params"]["bias"], np.full(3, 60.0))


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "none", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.restore_latest(like(sharding.make_mesh(data=1))) is None
        assert checkpoints.is_best({"miou": 0.0}) and not checkpoints.is_best({"miou": float("nan")})


def test_better_scores_are_told_from_worse(saved):
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        told = [checkpoints.is_best({"miou": miou}) for miou in (0.91, 0.9, 0.5, float("nan"))]
    assert told == [True, False, False, False]


def test_scores_are_compared_while_a_save_is_under_way(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(1, {"large": jnp.zeros((4000, 4000))}, {"miou": 0.5})
        assert [checkpoints.is_best({"miou": miou}) for miou in (0.4, 0.6)] == [False, True]
