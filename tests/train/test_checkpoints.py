"""Which checkpoints are kept, how they are restored on any mesh, and what happens to damaged ones."""

import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from flaxseg.errors import CheckpointError, WeightsError
from flaxseg.models.pretrained.checkpoints import read_checkpoint
from flaxseg.models.pretrained.manifest import Damaged, read_manifest, verify, write_manifest
from flaxseg.train import checkpoint_damage, checkpoint_saves, sharding
from flaxseg.train import checkpoints as checkpoints_module
from flaxseg.train.background_save import Manager
from flaxseg.train.checkpoints import Checkpoints


def state(value):
    return {"params": {"kernel": jnp.full((4, 8), value), "bias": jnp.full(3, value)}, "ema_params": None}


def abstract_state(mesh):
    """Returns the shapes, types and shardings of a state on a mesh."""
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


def test_a_checkpoint_is_restored_on_any_mesh(saved):
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        for parts in ({"data": 1}, {"data": 2, "fsdp": 4}):
            restored = checkpoints.restore(abstract_state(sharding.make_mesh(**parts)), step=2)
            np.testing.assert_array_equal(restored["params"]["kernel"], np.full((4, 8), 2.0))
            assert restored["params"]["kernel"].sharding.mesh.size == np.prod(list(parts.values()))
            assert restored["ema_params"] is None
        latest = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(latest["params"]["bias"], np.full(3, 6.0))


def test_an_existing_step_is_not_overwritten(saved):
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(6, state(-1.0))
        checkpoints.wait()
        np.testing.assert_array_equal(
            checkpoints.restore_latest(abstract_state(sharding.make_mesh()))["params"]["bias"], np.full(3, 6.0)
        )


def test_restoring_a_missing_step_lists_the_existing_ones(saved):
    with (
        Checkpoints(saved, keep=2, best_metric="miou") as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint of step 3; steps there: 2, 5, 6"),
    ):
        checkpoints.restore(abstract_state(sharding.make_mesh()), step=3)


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
def test_a_damaged_checkpoint_is_renamed_and_the_previous_one_restored(saved, tmp_path, how):
    directory = damaged_copy(saved, tmp_path / "checkpoints", how)
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 5.0))
        assert checkpoints.latest_step == 5
        checkpoints.save(6, state(60.0), {"miou": 0.1})
    assert (directory / "6.damaged").is_dir()
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        latest = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(latest["params"]["bias"], np.full(3, 60.0))


def damage(file, kind, rng):
    """Flips a bit of a file, truncates it, deletes it, or fills a part of it with zeros."""
    content = bytearray(file.read_bytes())
    at = int(rng.integers(len(content))) if content else 0
    if kind == "delete" or not content:
        file.unlink()
        return
    if kind == "flip":
        content[at] ^= 1 << int(rng.integers(8))
    elif kind == "truncate":
        content = content[:at]
    else:
        content[at:] = bytes(len(content) - at)
    file.write_bytes(content)


KINDS = ("flip", "truncate", "delete", "zeros")


def restored_after_damage(saved, directory, file, kind, rng):
    """Returns the kernel that is restored where a file of the newest checkpoint is damaged."""
    shutil.copytree(saved, directory)
    damage(directory / file, kind, rng)
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
    return np.asarray(restored["params"]["kernel"])


def files_of_the_newest(saved):
    return [path.relative_to(saved) for path in sorted((saved / "6").rglob("*")) if path.is_file()]


@pytest.mark.parametrize("step", [5, 6])
def test_metadata_that_orbax_cannot_read_does_not_block_a_run(saved, tmp_path, step):
    """Orbax reads the metadata of every checkpoint when its manager is created."""
    shutil.copytree(saved, tmp_path / "run")
    file = tmp_path / "run" / str(step) / "_CHECKPOINT_METADATA"
    file.write_bytes(file.read_bytes().replace(b"init_timestamp", b"inat_timestamp"))
    with Checkpoints(tmp_path / "run", keep=2, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
    np.testing.assert_array_equal(restored["params"]["kernel"], np.full((4, 8), 11.0 - step))
    assert (tmp_path / "run" / f"{step}.damaged").is_dir()


def test_damage_to_any_file_is_noticed(saved, tmp_path):
    """Whatever happens to a file of the newest checkpoint, the state that is restored is one that was saved."""
    rng = np.random.default_rng(0)
    for number, file in enumerate(files_of_the_newest(saved)):
        directory, kind = tmp_path / str(number), KINDS[number % len(KINDS)]
        kernel = restored_after_damage(saved, directory, file, kind, rng)
        np.testing.assert_array_equal(kernel, np.full((4, 8), 5.0), err_msg=f"{kind} {file}")
        assert (directory / "6.damaged").is_dir()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200))
def test_random_damage_is_noticed_or_without_effect(saved, tmp_path, seed):
    rng = np.random.default_rng(seed)
    files = files_of_the_newest(saved)
    kernel = restored_after_damage(saved, tmp_path / "run", files[rng.integers(len(files))], KINDS[seed % 4], rng)
    # Zeros where there were zeros change nothing.
    noticed = (tmp_path / "run" / "6.damaged").is_dir()
    np.testing.assert_array_equal(kernel, np.full((4, 8), 5.0 if noticed else 6.0))


def test_the_message_names_the_file_that_changed(saved, tmp_path, caplog):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    metadata = directory / "6" / "state" / "_METADATA"
    metadata.write_text(metadata.read_text().replace("kernel", "kernal"))
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
    assert "step 6 cannot be read (Damaged: state/_METADATA: its contents have changed); renamed to 6.da" in caplog.text


def test_a_save_that_a_kill_left_without_a_manifest_is_set_aside(saved, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    (directory / "6" / "manifest.json").unlink()
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        assert checkpoints.latest_step == 5
        assert (directory / "6.damaged").is_dir()
        checkpoints.save(6, state(60.0))
    assert sorted(path.name for path in directory.iterdir()) == ["2", "5", "6"]


def test_a_first_save_that_a_kill_left_without_a_manifest_is_not_used(tmp_path):
    """Its scores, and the number of returns to a checkpoint, would be unknown."""
    directory = tmp_path / "checkpoints"
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(3, state(3.0), {"miou": 0.5})
    (directory / "3" / "manifest.json").unlink()
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1))) is None


def test_checkpoints_of_a_version_without_manifests_are_used(saved, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    for step in directory.iterdir():
        (step / "manifest.json").unlink()
        metadata = step / "_CHECKPOINT_METADATA"
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"custom_metadata": {}}))
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 6.0))


def test_damage_that_only_another_process_notices_is_damage_here(saved, tmp_path, monkeypatch, caplog):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    others = ["state/d/1: its contents have changed"]

    def first_message(message):
        return message or (others.pop() if others else "")

    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        monkeypatch.setattr(checkpoint_damage, "first_message", first_message)
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        monkeypatch.undo()
    np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 5.0))
    assert "step 6 cannot be read (Damaged: state/d/1: its contents have changed); renamed to 6.damaged" in caplog.text


def test_a_step_that_is_damaged_again_is_set_aside_again(saved, tmp_path):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    for bias in (6.0, 60.0):
        (directory / "6" / "state" / "_METADATA").write_text("")
        with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
            restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
            np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 5.0))
            checkpoints.save(6, state(bias))
    assert sorted(path.name for path in directory.iterdir()) == ["2", "5", "6", "6.2.damaged", "6.damaged"]


def test_what_was_not_written_as_it_was_in_memory_is_noticed(saved, tmp_path, monkeypatch):
    """The files agree with the manifest: a bit has flipped before they were written."""
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    save = Manager.save

    def flipped(manager, step, args, **options):
        params = {name: np.array(value) for name, value in args.state.item["params"].items()}
        params["kernel"].view(np.uint32)[2, 5] ^= 1
        changed = {**args.state.item, "params": jax.tree.map(jnp.asarray, params)}
        save(manager, step, args=ocp.args.Composite(state=ocp.args.StandardSave(changed)), **options)

    with Checkpoints(directory, keep=3, best_metric="miou") as checkpoints:
        checkpoints.save(7, state(7.0))
        checkpoints.wait()
        monkeypatch.setattr(Manager, "save", flipped)
        checkpoints.save(8, state(8.0))
        checkpoints.wait()
        verify(directory / "8", read_manifest(directory / "8"))
        with pytest.raises(WeightsError, match=r"8: is damaged \(the values of params/kernel are not those that were"):
            read_checkpoint(directory / "8" / "state")
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=2, fsdp=4)))
    np.testing.assert_array_equal(restored["params"]["kernel"], np.full((4, 8), 7.0))
    assert (directory / "8.damaged").is_dir()


def test_a_damaged_checkpoint_that_cannot_be_renamed_is_one_error(saved, tmp_path, monkeypatch):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    (directory / "6" / "state" / "_METADATA").write_text("")

    def denied(directory, step):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoints_module.files, "set_aside", denied)
    message = (
        r"step 6 cannot be read \(Damaged: state/_METADATA: has 0 bytes .*\), nor renamed \(Permission denied\); make"
    )
    with (
        pytest.raises(CheckpointError, match=message),
        Checkpoints(directory, keep=2, best_metric="miou") as checkpoints,
    ):
        checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))


def test_adding_scores_does_not_hide_damage(tmp_path):
    """The digests are those of the files that were written, and not of what they have become."""
    directory = tmp_path / "checkpoints"
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(3, state(3.0), counts={"rollbacks": 1})
        checkpoints.wait()
        (directory / "3" / "state" / "_METADATA").write_text("{}")
        checkpoints.save(3, state(3.0), {"miou": 0.5})
        assert checkpoints.best_step == 3
    manifest = read_manifest(directory / "3")
    assert (manifest.scores, manifest.counts) == ({"miou": 0.5}, {"rollbacks": 1})
    with pytest.raises(Damaged, match="_METADATA: has 2 bytes instead of"):
        verify(directory / "3", manifest)


def test_old_checkpoints_are_deleted_only_once_the_new_one_is_complete(saved, tmp_path, monkeypatch):
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_saves, "write_manifest", full)
    with (
        pytest.raises(
            CheckpointError, match=r"step 7 could not be saved \(No space left on device; .* free, 0.1 MB need"
        ),
        Checkpoints(directory, keep=2, best_metric="miou") as checkpoints,
    ):
        checkpoints.save(7, state(7.0))
    assert sorted(int(path.name) for path in directory.iterdir()) == [2, 5, 6]
    monkeypatch.undo()
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
        np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 6.0))


def test_what_a_killed_run_left_to_delete_is_deleted(saved, tmp_path):
    """A kill between two renames leaves more checkpoints than are kept; one during a deletion, a part of one."""
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    for step in (3, 4):
        shutil.copytree(saved / "5", directory / str(step))
        write_manifest(directory / str(step), step=step, scores={})
    shutil.copytree(saved / "5" / "state", directory / "1.deleted")
    with Checkpoints(directory, keep=2, best_metric="miou") as checkpoints:
        checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
    assert sorted(path.name for path in directory.iterdir()) == ["2", "5", "6"]


def test_nothing_is_deleted_for_a_checkpoint_that_is_damaged(saved, tmp_path):
    """A kill after the manifest of a step, and before the deletion of the one before it, and then a flipped bit."""
    directory = tmp_path / "checkpoints"
    shutil.copytree(saved, directory)
    (directory / "6" / "state" / "_METADATA").write_text("")
    for _ in range(2):
        with Checkpoints(directory, keep=1, best_metric="miou") as checkpoints:
            restored = checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1)))
            np.testing.assert_array_equal(restored["params"]["bias"], np.full(3, 5.0))
    assert sorted(path.name for path in directory.iterdir()) == ["2", "5", "6.damaged"]


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "none", keep=2, best_metric="miou") as checkpoints:
        assert checkpoints.restore_latest(abstract_state(sharding.make_mesh(data=1))) is None
        assert checkpoints.is_best({"miou": 0.0}) and not checkpoints.is_best({"miou": float("nan")})


def test_only_a_higher_score_is_the_best(saved):
    with Checkpoints(saved, keep=2, best_metric="miou") as checkpoints:
        is_best = [checkpoints.is_best({"miou": miou}) for miou in (0.91, 0.9, 0.5, float("nan"))]
    assert is_best == [True, False, False, False]


def test_scores_are_compared_while_a_save_is_under_way(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=2, best_metric="miou") as checkpoints:
        checkpoints.save(1, {"large": jnp.zeros((4000, 4000))}, {"miou": 0.5})
        assert [checkpoints.is_best({"miou": miou}) for miou in (0.4, 0.6)] == [False, True]
