"""Times whole training commands, relative to the bare step and to a plain PyTorch script, and prints JSON.

    python benchmarks/end_to_end.py loop
    python benchmarks/end_to_end.py peer --peer-python PYTHON
    python benchmarks/end_to_end.py peer --peer-python PYTHON --data DIR --masks annotations/trimaps --values 1 2 3

`loop` runs `flaxseg.main` with `data.cache=host` in turn with its bare step: the same compiled program on one batch,
which is on the device already. The ratio is that of the images per second, after the first epoch, without evaluation.

`peer` runs `flaxseg.main` in turn with peers/torch_train.py, which does the same work with segmentation_models_pytorch:
the same folder, split, network, augmentation, optimizer, evaluations and checkpoints. The ratio is that of the images
per second from the start of the command to its end, first with an empty cache of compiled programs, and then with it.
Without --data, images are generated.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from measuring import PEERS, Part, print_result, progress, ratios, result, run, run_json, spread, table, text, version
from training_folder import TrainingFolder, generated, linked

SMP = "segmentation_models_pytorch"
AUGMENT = ("augment.scale=(1.0,1.3)", "augment.flip=0.5", "augment.brightness=0.1", "augment.contrast=0.2")


def model_overrides(flags: argparse.Namespace) -> list[str]:
    """Returns the settings of the network and of the steps."""
    overrides = [
        f"model.name={flags.model}", "model.options={}", f"data.image_size=({flags.size},{flags.size})",
        f"train.batch_size={flags.batch}", f"eval.batch_size={flags.batch}", "optimizer.ema_decay=0.0",
        "optimizer.grad_clip=0.0", "data.cache=host", *AUGMENT,
    ]  # fmt: skip
    return overrides + ([f"model.options.encoder={flags.encoder}"] if flags.encoder else [])


def main_command(python: str, config: str, workdir: Path, overrides: Sequence[str]) -> list[str]:
    """Returns the training command."""
    return [
        python, "-m", "flaxseg.main", f"--config={config}", f"--workdir={workdir}",
        *(f"--config.{override}" for override in overrides),
    ]  # fmt: skip


def seconds(command: Sequence[str], **variables: str) -> float:
    """Returns the seconds from the start of a command to its end."""
    begin = time.perf_counter()
    run(command, variables=variables)
    return time.perf_counter() - begin


def loop_rate(metrics: Path, *, first_step: int, batch: int) -> float:
    """Returns the images per second of a run after a step, from the times at which its steps were logged.

    Args:
      metrics: the run's `metrics.jsonl`.
      first_step: the step after which the time begins.
      batch: images per step.
    """
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    logged = [(row["step"], row["wall_time"]) for row in rows if "train/loss" in row and row["step"] >= first_step]
    (first, begin), (last, end) = logged[0], logged[-1]
    return float(batch * (last - first) / (end - begin))


def bare_rate(config: str, overrides: Sequence[str], *, steps: int) -> float:
    """Returns the images per second of the bare step of a run, after a warm-up; it is waited for at the end only."""
    import jax

    from flaxseg import compile_cache
    from flaxseg.config.files import load_config
    from flaxseg.train.build import build
    from flaxseg.train.compile import Turn, compile_run
    from flaxseg.train.sharding import place_batch
    from flaxseg.train.state import create_state, load_weights

    compile_cache.enable()
    built = build(load_config(config, list(overrides)))
    state = create_state(built, load_weights(built))
    train, key = compile_run(built, state).train, built.loop.step_key
    batch = place_batch(built.data.train_batches[0], built.loop.mesh)
    begin = 0.0
    warm_up = 3
    for number in range(warm_up + steps):
        if number == warm_up:
            jax.block_until_ready(state)
            begin = time.perf_counter()
        state = train(state, batch, key, {}, Turn(number, 0, 0)).state
    jax.block_until_ready(state)
    return steps * built.loop.call.batch_size / (time.perf_counter() - begin)


def measure_loop(flags: argparse.Namespace) -> dict[str, Any]:
    """Compares the rate of the training loop with that of the bare step."""
    per_epoch = flags.images // flags.batch
    total = per_epoch + flags.steps
    overrides = [
        *model_overrides(flags), f"data.options.size=({flags.size * 3 // 2},{flags.size * 3 // 2})",
        f"data.options.count={flags.images}", f"train.steps={total}", f"eval.every={total}", f"log.every={flags.log}",
        "optimizer.warmup_steps=0",
    ]  # fmt: skip
    found: dict[str, list[float]] = {"loop": [], "bare": []}
    for number in range(flags.rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds(main_command(flags.python, "shapes", Path(folder), overrides))
            metrics = Path(folder) / "metrics.jsonl"
            found["loop"].append(loop_rate(metrics, first_step=per_epoch, batch=flags.batch))
        bare = [flags.python, __file__, "bare", "--steps", str(flags.steps), "--override", *overrides]
        found["bare"].append(run_json(bare)["images_per_s"])
        progress(f"round {number + 1}: {found['loop'][-1]:.1f} of {found['bare'][-1]:.1f} images/s")
    about = f"""`{network(flags)}`, batches of {flags.batch}, {flags.size}x{flags.size}, augmentation,
    `data.cache=host`: the images per second that `flaxseg.main` reaches after the first epoch, relative to those of its
    bare step."""
    row = [spread(found["loop"])["median"], spread(found["bare"])["median"], ratios(found["loop"], found["bare"])]
    parts: list[Part] = [text(about), table(["`flaxseg.main`, images/s", "bare step, images/s", "ratio"], [row])]
    return result("The training loop, beside its bare step", parts, versions=[version(flags.python, "jax")], data=found)


def measure_peer(flags: argparse.Namespace) -> dict[str, Any]:
    """Compares the time of a training command with that of the PyTorch script."""
    found: dict[str, list[float]] = {"cold": [], "warm": [], "peer": []}
    with tempfile.TemporaryDirectory() as root:
        data = _folder(flags, Path(root) / "data")
        images = data.train // flags.batch * flags.batch * flags.epochs
        for number in range(flags.rounds):
            for name, call in _sides(flags, data, Path(root) / str(number)).items():
                found[name].append(images / call())
                progress(f"round {number + 1}: {name} {found[name][-1]:.1f} images/s")
    about = f"""`{network(flags)}`, {flags.size}x{flags.size}, batches of {flags.batch}: images per second from the
    start of the command to the end of {flags.epochs} epochs of {data.train} images, with an evaluation of {data.val}
    images at their own resolution and a checkpoint after each. The PyTorch script reads with {flags.workers} worker
    processes; flaxseg keeps decoded images (`data.cache=host`). The ratio is the rate of flaxseg relative to
    PyTorch's."""
    rows = [
        [label, spread(found[name])["median"], ratios(found[name], found["peer"])]
        for name, label in (("cold", "flaxseg, empty cache of programs"), ("warm", "flaxseg, full cache of programs"))
    ]
    rows.append(["PyTorch", spread(found["peer"])["median"], ""])
    parts: list[Part] = [text(about), table(["", "images/s", "ratio"], rows)]
    versions = [version(flags.python, "jax"), *(version(flags.peer_python, name) for name in ("torch", SMP))]
    return result("A whole training, beside PyTorch", parts, versions=versions, data=found)


def _sides(flags: argparse.Namespace, data: TrainingFolder, folder: Path) -> dict[str, Callable[[], float]]:
    """Returns what takes the time of a training command with an empty and a full cache, and of the PyTorch script."""
    overrides = [
        *model_overrides(flags), f"data.dir={data.root}", "data.options.images='{split}/images'",
        "data.options.masks='{split}/masks'", f"data.options.values={tuple(data.values)}",
        f"train.epochs={flags.epochs}", f"optimizer.warmup_steps={flags.warmup}", f"log.every={flags.log}",
    ]  # fmt: skip
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }

    def ours(name: str) -> float:
        return seconds(main_command(flags.python, "folder", folder / name, overrides), **cache)

    peer = [
        flags.peer_python, str(PEERS / "torch_train.py"), "--data", str(data.root), "--output", str(folder / "peer"),
        "--values", *map(str, data.values), "--model", flags.model, "--size", str(flags.size),
        "--batch", str(flags.batch), "--epochs", str(flags.epochs), "--warmup", str(flags.warmup),
        "--workers", str(flags.workers), "--log", str(flags.log),
        *(["--encoder", flags.peer_encoder or flags.encoder] if flags.encoder else []),
    ]  # fmt: skip
    return {"cold": lambda: ours("cold"), "warm": lambda: ours("warm"), "peer": lambda: seconds(peer)}


def _folder(flags: argparse.Namespace, root: Path) -> TrainingFolder:
    """Returns the folder that both sides train on."""
    if not flags.data:
        return generated(root, train=flags.images, val=flags.val_images, size=(375, 500))
    return linked(
        Path(flags.data), root, images=flags.images_folder, masks=flags.masks, values=flags.values,
        train=flags.images, val=flags.val_images,
    )  # fmt: skip


def network(flags: argparse.Namespace) -> str:
    """Returns the name of the network with its encoder."""
    return f"{flags.model}-{flags.encoder}" if flags.encoder else str(flags.model)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("loop", "peer", "bare"), help="what to measure; loop calls bare")
    parser.add_argument("--python", metavar="PYTHON", default=sys.executable, help="interpreter for flaxseg")
    parser.add_argument("--model", help="the network (default: plain_unet for loop, unet for peer)")
    parser.add_argument("--encoder", help="its encoder (default: resnet34 for unet)")
    parser.add_argument("--size", type=int, default=128, help="height and width of the network's images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=64, help="training images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=int, default=10, help="steps between logged losses")
    loop = parser.add_argument_group("loop")
    loop.add_argument("--steps", type=int, default=60, help="steps after the first epoch")
    loop.add_argument("--override", nargs="+", default=[], help=argparse.SUPPRESS)
    peer = parser.add_argument_group("peer")
    peer.add_argument("--peer-python", metavar="PYTHON", help="interpreter with PyTorch")
    peer.add_argument("--peer-encoder", metavar="NAME", help="the encoder's name there, if it differs")
    peer.add_argument("--data", metavar="DIR", help="folder with images and masks")
    peer.add_argument("--images-folder", default="images", metavar="NAME", help="folder of the images in DIR")
    peer.add_argument("--masks", default="masks", metavar="NAME", help="folder of the masks in DIR")
    peer.add_argument("--values", type=int, nargs="+", default=[0, 1], help="mask value of each class")
    peer.add_argument("--val-images", type=int, default=32)
    peer.add_argument("--epochs", type=int, default=3)
    peer.add_argument("--warmup", type=int, default=10, help="steps of warm-up")
    peer.add_argument("--workers", type=int, default=2, help="worker processes of the DataLoader")
    flags = parser.parse_args(argv)
    if flags.part == "peer" and not flags.peer_python:
        parser.error("peer needs --peer-python")
    flags.model = flags.model or ("unet" if flags.part == "peer" else "plain_unet")
    flags.encoder = flags.encoder if flags.encoder is not None else ("resnet34" if flags.model == "unet" else "")
    return flags


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    flags = parse()
    if flags.part == "bare":
        from flaxseg import host_memory

        host_memory.restart_with_large_pages()  # As the command does.
        print(json.dumps({"images_per_s": bare_rate("shapes", flags.override, steps=flags.steps)}))
    else:
        print_result(measure_loop(flags) if flags.part == "loop" else measure_peer(flags))


if __name__ == "__main__":
    main()
