"""A run in a process of its own, which records what it computes, and may kill itself at a stage.

    python tests/recorded_run.py RECORDS STAGE [ARGUMENT ...]

The arguments are those of `python -m flaxseg.main`. The run appends a line to RECORDS/steps.jsonl for each step that
begins, with the indices of its examples and a digest of its images, and writes RECORDS/state.json at its end, with the
SHA-256 of each array of the final state: on the devices, and as restored from its checkpoint. STAGE is "none", "stop at
STEP", or in `stages`. The mean IoU is replaced by SCORES, so that the first checkpoint that is the best is that of step
4, and the next one that of step 8.

With PROCESS="PORT INDEX" in the environment it is one of two processes of a run; each has RECORDS of its own.
"""

import hashlib
import importlib.abc
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

SCORES = {4: 0.5, 8: 0.6, 10: 0.1}

OVERRIDES = [
    "train.steps=10", "train.batch_size=8", "eval.every=4", "eval.batch_size=8", "checkpoint.every=2",
    "checkpoint.keep=1", "log.every=1", "log.images=1", "log.writer=tensorboard", "optimizer.ema_decay=0.9",
    "augment.scale=(0.9,1.2)", "model.options.decoder_dropout=0.2",
]  # fmt: skip


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def stop(*_, **__):
    """Sends SIGTERM to this process, and waits until the run knows."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)


def before(owner, name, when=lambda *_, **__: True, act=kill):
    """Acts once, before a function is called with arguments for which `when` returns True."""
    original, done = getattr(owner, name), []

    def replacement(*arguments, **options):
        if not done and when(*arguments, **options):
            done.append(True)
            act(*arguments, **options)
        return original(*arguments, **options)

    setattr(owner, name, replacement)


def before_import(module):
    class Killer(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == module:
                kill()

    sys.meta_path.insert(0, Killer())


def before_replace(target):
    before(Path, "replace", lambda path, new: Path(new).match(target))


def half_removed(path, **_):
    files = [each for each in sorted(Path(path).rglob("*")) if each.is_file()]
    for file in files[: len(files) // 2]:
        file.unlink()
    kill()


def half_a_row(rows, text):
    with rows._path.open("a") as file:
        file.write(text[: len(text) // 2])
    kill()


def half_an_event(writer, step, summaries):
    class Torn:
        def write(self, data):
            file.write(data[: len(data) // 2])
            file.flush()
            kill()

    file, writer._records._writer = writer._records._writer, Torn()


def stages():
    """Returns, by the name of each stage, what makes this process kill itself there."""
    from orbax.checkpoint._src.path.atomicity import AtomicRenameTemporaryPath

    from flaxseg.report.metric_writers import TensorBoardWriter
    from flaxseg.report.step_rows import StepRows
    from flaxseg.train import checkpoint_files, checkpoint_saves, evaluation
    from flaxseg.train.background_save import BackgroundSave
    from flaxseg.train.parts import optimization
    from flaxseg.train.progress import ProgressBar
    from flaxseg.train.writers import CheckpointWriter

    def of_step(number):
        return lambda directory, *, step, **_: step == number

    def is_evaluated(run, compiled, state, batch):
        return int(state.step) == 4

    def is_deleted(path, **_):
        return Path(path).match("*.deleted")

    return {
        "configuration": (before_replace, "model.json"),
        "compilation": (before, optimization, "train_step"),
        "first step": (before, ProgressBar, "on_step"),
        "Orbax writes": (before, BackgroundSave, "_run", lambda save, parts: save.step == 6),
        "Orbax commits": (before, AtomicRenameTemporaryPath, "finalize", lambda path: path._final_path.name == "6"),
        "first manifest": (before, checkpoint_saves, "write_manifest", of_step(2)),
        "manifest": (before, checkpoint_saves, "write_manifest", of_step(6)),
        "manifest written": (before_replace, "6/manifest.json"),
        "before deletion": (before, checkpoint_files, "delete_old", lambda _, complete, **__: 6 in complete),
        "deletion": (before, checkpoint_files.shutil, "rmtree", is_deleted),
        "half deleted": (before, checkpoint_files.shutil, "rmtree", is_deleted, half_removed),
        "evaluation": (before, evaluation, "image_logits", is_evaluated),
        "evaluated": (before, CheckpointWriter, "on_checkpoint", lambda _, step, *__: step == 4),
        "best switched": (before, Path, "rename", lambda path, _: path.match("checkpoints/4")),
        "row": (before, StepRows, "_write", lambda _, text: '"step": 7,' in text, half_a_row),
        "event": (before, TensorBoardWriter, "_write", lambda _, step, summaries: step == 7, half_an_event),
        "take-over": (before_replace, ".lock"),
        "stop in evaluation": (before, evaluation, "image_logits", is_evaluated, stop),
        "scores added": (before_replace, "4/manifest.json"),
    }


def prepare(stage):
    if stage == "import":
        before_import("flaxseg.train.fit")
    elif stage.startswith("stop at "):
        from flaxseg.train.progress import ProgressBar

        last = int(stage.removeprefix("stop at "))
        before(ProgressBar, "on_step", lambda _, step, metrics: step == last, stop)
    elif stage != "none":
        function, *arguments = stages()[stage]
        function(*arguments)


def digests(state):
    import jax
    import numpy as np

    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        # Of what is restored, dataclasses and tuples have become dictionaries and lists.
        re.sub(r"\W+", "/", jax.tree_util.keystr(path)): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for path, leaf in paths
    }


def local(array):
    """Returns an array, or the rows of this process if other processes have the others."""
    import numpy as np

    if array.is_fully_addressable:
        return np.asarray(array)
    return np.concatenate([np.asarray(shard.data) for shard in array.addressable_shards])


def record(folder):
    """Makes the run write what it computes to a folder."""
    import jax

    from flaxseg.train import fit, loop

    compile_run, run_fit, evaluate = loop.compile_run, loop.fit, fit.evaluate

    def recorded(*arguments):
        compiled = compile_run(*arguments)

        def train(state, batch, key, stored, turn, *hyperparameters):
            images = hashlib.sha256(local(batch["image"]).tobytes()).hexdigest()
            row = {"step": turn.number + 1, "examples": local(batch["index"]).tolist(), "images": images}
            with (folder / "steps.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            return compiled.train(state, batch, key, stored, turn, *hyperparameters)

        return compiled._replace(train=train)

    def scored(run, compiled, state, **options):
        evaluation = evaluate(run, compiled, state, **options)
        evaluation.scores["miou"] = SCORES.get(int(state.step), 0.0)
        return evaluation

    def recorded_fit(run, state, checkpoints, callbacks, **options):
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
        result = run_fit(run, state, checkpoints, callbacks, **options)
        restored = checkpoints.restore(like, int(result.state.step))
        content = {"devices": digests(result.state), "checkpoint": digests(restored), "best": result.best_step}
        (folder / "state.json").write_text(json.dumps(content))
        return result

    loop.compile_run, loop.fit, fit.evaluate = recorded, recorded_fit, scored


def join_other(port, index):
    """Makes this process one of two, which notices the death of the other one soon."""
    import jax

    jax.distributed.initialize(f"localhost:{port}", 2, int(index))
    from flaxseg.train import heartbeats

    heartbeats.DEATH_SECONDS, heartbeats.BEAT_SECONDS = 4.0, 0.2


if __name__ == "__main__":
    if "PROCESS" in os.environ:
        join_other(*os.environ["PROCESS"].split())
    prepare(sys.argv[2])
    record(Path(sys.argv[1]))
    from flaxseg.main import main

    sys.exit(main(["--config=configs/shapes.py:tiny", *(f"--config.{each}" for each in OVERRIDES), *sys.argv[3:]]))
