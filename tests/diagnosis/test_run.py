"""What is reported about the directory of a run, and about everything that may be wrong with it."""

import hashlib
import json
import os
import shutil
import sys

import jax
import pytest
from saved_run import save_run
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from flaxseg import load
from flaxseg.data.stored_samples import take_samples, write_samples
from flaxseg.diagnosis.checks import examine_run
from flaxseg.diagnosis.findings import Note, Row
from flaxseg.doctor import main
from flaxseg.errors import WeightsError
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.workdir import Workdir

EVENTS = "events.out.tfevents.1.host"


def write_events(path, points):
    """Writes an event file with a scalar for each (tag, step)."""
    with path.open("wb") as stream:
        writer = RecordWriter(stream)
        writer.write(Event(wall_time=1, file_version="brain.Event:2").SerializeToString())
        for tag, step in points:
            event = Event(wall_time=1, step=step)
            event.summary.value.add(tag=tag, simple_value=0.5)
            writer.write(event.SerializeToString())


def write_logs(workdir, *, steps):
    rows = [{"step": step, "wall_time": 1.0, "train/loss": 0.5} for step in steps] + [
        {"step": steps[-1], "eval/miou": 0.5}
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_events(workdir / EVENTS, [("train/loss", step) for step in steps] + [("eval/miou", steps[-1])])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The directory of a healthy run, of three checkpoints, of which the second is the best; and a state of it."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    _, run, states = save_run(workdir, scores={10: 0.25, 20: 0.75, 30: 0.5})
    write_samples(workdir / "samples.npz", take_samples(run.data.evaluation, image_size=(8, 8))[:3])
    write_logs(workdir, steps=[10, 20, 30])
    return workdir, states[30]


@pytest.fixture(scope="module")
def saved(made):
    return made[0]


@pytest.fixture(scope="module")
def state(made):
    return made[1]


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def tree(root):
    """Returns the content and the modification time of everything below a directory."""
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in [root, *root.rglob("*")]
    }


def examined(workdir):
    """Returns the rows, the notes and the problems of a run; nothing in its directory may change."""
    before = tree(workdir) if workdir.is_dir() else {}
    sections = list(examine_run(workdir))
    assert (tree(workdir) if workdir.is_dir() else {}) == before
    findings = [finding for section in sections for finding in section.findings]
    rows = {finding.name: finding.text for finding in findings if isinstance(finding, Row)}
    notes = [finding.text for finding in findings if isinstance(finding, Note)]
    return rows, notes, [problem for section in sections for problem in section.problems]


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path, place=-10):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_healthy_run(saved, capsys):
    rows, notes, problems = examined(saved)
    assert (notes, problems) == ([], [])
    assert rows["lock"] == "none: no run is using it"
    assert rows["config.json"].startswith("plain_unet on shapes, ")
    assert rows["data.json"] == "train: 16 examples, 5 classes; eval: 16 examples, 5 classes"
    assert rows["model.json"].startswith("plain_unet, 5 classes, 3 channels; trained with flaxseg ")
    assert rows["samples.npz"].startswith("3 images and labels, ")
    assert [name for name in rows if name.startswith("step ")] == ["step 10", "step 20", "step 30"]
    assert rows["step 20"].endswith("KiB, miou 0.7500; verified")
    assert rows["resuming uses"] == "step 30"
    assert rows["flaxseg.load uses"] == "step 20 (the best miou)"
    assert rows["metrics.jsonl"] == "3 logged steps, 1 evaluations"
    assert rows[EVENTS].startswith("5 events, ")
    assert main([str(saved), "--skip_devices"]) == 0
    output = capsys.readouterr()
    assert output.out.endswith("healthy: no problems found\n") and not output.err


def test_the_checkpoints_named_are_those_that_are_used(workdir):
    """What is said about resuming and loading is what resuming and loading do."""
    flip(largest_file(workdir / "checkpoints" / "30"))
    rows, _, (problem,) = examined(workdir)
    assert rows["resuming uses"] == "step 20" and rows["flaxseg.load uses"] == "step 20 (the best miou)"
    assert rows["step 30"].endswith("not verified")
    name = largest_file(workdir / "checkpoints" / "30").relative_to(workdir / "checkpoints" / "30")
    assert problem.text == f"checkpoints/30 is damaged: {name}: its contents have changed"
    assert load(workdir, fold=False).name.endswith("(step 20)")


def test_a_damaged_best_checkpoint_is_reported_for_loading(workdir):
    largest_file(workdir / "checkpoints" / "20").unlink()
    rows, _, problems = examined(workdir)
    assert rows["resuming uses"] == "step 30" and rows["flaxseg.load uses"] == "step 20 (the best miou)"
    damaged, unusable = problems
    assert damaged.text.startswith("checkpoints/20 is damaged: ") and damaged.text.endswith(": is missing")
    assert unusable.text == "flaxseg.load would use step 20, which is damaged or incomplete"
    assert "step=30" in unusable.remedy
    with pytest.raises(WeightsError, match="20: is damaged"):
        load(workdir)
    # The first remedy.
    (workdir / "checkpoints" / "20").rename(workdir / "checkpoints" / "20.damaged")
    rows, notes, problems = examined(workdir)
    assert not problems and rows["flaxseg.load uses"] == "step 30 (the best miou)"
    assert len(notes) == 1 and notes[0].startswith("checkpoints/20.damaged (")
    assert notes[0].endswith(" KiB) was damaged and set aside; delete it when you have looked at it")


def test_incomplete_and_renamed_checkpoints(workdir):
    checkpoints = workdir / "checkpoints"
    (checkpoints / "30" / "manifest.json").unlink()
    (checkpoints / "20").rename(checkpoints / "21")
    rows, _, (renamed, incomplete) = examined(workdir)
    assert renamed.text == "checkpoints/21 is the checkpoint of step 20 under another name"
    assert incomplete.text == "checkpoints/30 has no manifest, because it was not saved completely"
    assert rows["resuming uses"] == "step 21"


def test_a_run_without_manifests_is_old_and_not_damaged(workdir):
    for path in workdir.glob("checkpoints/*/manifest.json"):
        path.unlink()
        metadata = path.with_name("_CHECKPOINT_METADATA")
        metadata.write_text(metadata.read_text().replace('"has_manifest"', '"other"'))
    rows, notes, problems = examined(workdir)
    assert not problems and len([note for note in notes if "an older version of flaxseg wrote it" in note]) == 3
    assert (
        rows["resuming uses"] == "step 30"
        and rows["flaxseg.load uses"] == "step 30 (the latest, as none was evaluated)"
    )


def test_nothing_to_resume_from(workdir):
    for step in (10, 20, 30):
        flip(workdir / "checkpoints" / str(step) / "manifest.json", 30)
    rows, _, problems = examined(workdir)
    assert rows["resuming uses"] == "none: the run would begin anew"
    assert [problem.text for problem in problems][-1] == "no checkpoint can be resumed from"
    assert len(problems) == 4 and all("manifest.json: cannot be read" in problem.text for problem in problems[:3])


def test_what_a_killed_run_leaves(workdir):
    with WorkdirLock(Workdir(workdir)):
        lock = (workdir / ".lock").read_text()
        rows, notes, problems = examined(workdir)
        assert rows["lock"].startswith(f"in use by process {os.getpid()} on ") and not problems
        assert notes == ["it is being written to, so what is unfinished below may be finished soon"]
    owner = json.loads(lock)
    (workdir / ".lock").write_text(json.dumps(owner | {"started": owner["started"] - 1000}))
    (workdir / "samples.npz.new").write_bytes(b"")
    (workdir / "checkpoints" / "10.deleted").mkdir()
    (workdir / "checkpoints" / "40.orbax-checkpoint-tmp").mkdir()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/')
    with (workdir / EVENTS).open("ab") as file:
        file.write((workdir / EVENTS).read_bytes()[:20])
    rows, notes, problems = examined(workdir)
    assert rows["lock"].startswith("left by a run that was killed (process ") and not problems
    assert notes == [
        "repeat the command that trained the run to resume it; it takes the lock over",
        "unfinished files of a run that was killed, which may be deleted: samples.npz.new",
        "checkpoints/10.deleted is an unfinished deletion of a run that was killed, and may be deleted",
        "checkpoints/40.orbax-checkpoint-tmp is an unfinished save of a run that was killed, and may be deleted",
        "metrics.jsonl ends with an unfinished row, as a killed run leaves it; resuming removes it",
        f"{EVENTS} ends with an unfinished event, as a killed run leaves it; resuming removes it",
    ]


def broken_json(workdir, name):
    path = workdir / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "config.json, truncated": (lambda w: broken_json(w, "config.json"), "config.json cannot be read ("),
    "config.json, an unknown key": (
        lambda w: (w / "config.json").write_text((w / "config.json").read_text().replace('"width"', '"with"')),
        "config.json is not valid for this version: ",
    ),
    "data.json": (lambda w: broken_json(w, "data.json"), "data.json cannot be read ("),
    "data.json, a list": (lambda w: (w / "data.json").write_text("[]"), "data.json cannot be read ("),
    "model.json": (lambda w: broken_json(w, "model.json"), "model.json: is not JSON"),
    "model.json, another network": (
        lambda w: (w / "model.json").write_text((w / "model.json").read_text().replace("plain_unet", "plain_uned")),
        "model.json: its network cannot be built (",
    ),
    "samples.npz": (lambda w: broken_json(w, "samples.npz"), "samples.npz: cannot be read as the samples of a run"),
    "metrics.jsonl, a line": (
        lambda w: (w / "metrics.jsonl").write_text("x\n" + (w / "metrics.jsonl").read_text()),
        "metrics.jsonl: 1 lines are not rows, the first is line 1",
    ),
    "metrics.jsonl, twice": (
        lambda w: (w / "metrics.jsonl").write_text((w / "metrics.jsonl").read_text() * 2),
        "metrics.jsonl: 3 steps occur twice: 10, 20, 30",
    ),
    "events twice": (
        lambda w: write_events(w / f"{EVENTS}.2", [("train/loss", 10), ("train/lr", 10)]),
        "TensorBoard shows 1 steps twice: 10",
    ),
    "an event flipped": (lambda w: flip(w / EVENTS, 60), f"{EVENTS}: is damaged at byte "),
    "events missing": (
        lambda w: write_events(w / EVENTS, [("train/loss", 10), ("train/loss", 30)]),
        "TensorBoard lacks 1 logged steps that the other log has: 20",
    ),
    "rows missing": (
        lambda w: (w / "metrics.jsonl").write_text("".join((w / "metrics.jsonl").read_text().splitlines(True)[:2])),
        "metrics.jsonl lacks 1 logged steps that the other log has: 30",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_is_named_with_a_remedy(workdir, kind):
    damage, text = DAMAGE[kind]
    damage(workdir)
    _, _, problems = examined(workdir)
    assert [problem for problem in problems if text in problem.text], problems
    assert all(problem.remedy and "\n" not in problem.text + problem.remedy for problem in problems)
    assert not [problem for problem in problems if "unexpectedly" in problem.text]


def test_logs_after_the_latest_checkpoint_may_differ(workdir):
    write_events(workdir / EVENTS, [("train/loss", step) for step in (10, 20, 30, 40)])
    assert examined(workdir)[2] == []
    # An older version, without rows, began this run.
    with (workdir / "metrics.jsonl").open() as file:
        later = file.readlines()[1:]
    (workdir / "metrics.jsonl").write_text("".join(later))
    assert examined(workdir)[2] == []


def test_a_young_run_has_nothing_yet(workdir):
    for path in ("checkpoints", "images"):
        shutil.rmtree(workdir / path, ignore_errors=True)
    for path in (EVENTS, "metrics.jsonl", "samples.npz"):
        (workdir / path).unlink()
    rows, notes, problems = examined(workdir)
    assert problems == [] and len(notes) == 4 and "resuming uses" not in rows


@pytest.mark.parametrize("kind", ["missing", "file", "foreign", "empty", "exported"])
def test_what_is_no_run(tmp_path, kind, capsys):
    path = tmp_path / "place"
    if kind == "file":
        path.write_text("x")
    elif kind != "missing":
        path.mkdir()
        names = {"foreign": ["notes.pdf"], "empty": [], "exported": ["config.json", "model.json", "model.safetensors"]}
        for name in names[kind]:
            (path / name).write_text("{}")
    texts = {"missing": "does not exist", "file": "is a file", "foreign": "notes.pdf", "empty": "contains no run",
             "exported": "is an exported folder, not a run"}  # fmt: skip
    assert main([str(path), "--skip_devices", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is False
    (problem,) = report["sections"][-1]["problems"]
    assert texts[kind] in problem["problem"] and problem["remedy"] == "give the --workdir of a run"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_problem(workdir):
    (workdir / "metrics.jsonl").chmod(0)
    assert "metrics.jsonl" in examined(workdir)[2][-1].text


def test_a_resumed_run_uses_the_checkpoint_that_is_named(workdir, state):
    flip(largest_file(workdir / "checkpoints" / "30"))
    named = examined(workdir)[0]["resuming uses"]
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    with Checkpoints(workdir / "checkpoints", keep=5, best_metric="miou") as checkpoints:
        restored = checkpoints.restore_latest(like)
    assert named == f"step {int(restored.step)}"
