"""The command flaxseg.main: help, overrides, error messages, and stopping on a signal."""

import re
import signal
import subprocess
import sys
import time
import types

import pytest

from flaxseg.config.files import load_config
from flaxseg.main import NOT_EVALUATED, _report, _report_together, main
from flaxseg.train.result import Result


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "flaxseg.main", *arguments], capture_output=True, text=True, check=False
    )


def test_help_shows_the_flags_and_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for part in ("--config NAME[:VARIANT]", "--workdir", "--config.train.epochs=20", "--config=shapes"):
        assert part in text


def test_print_config_shows_the_overridden_values(capsys):
    arguments = [
        "--config=configs/pet.py:small",
        "--config.train.epochs=2",
        "--config.data.dir",
        "/pets",
        "--print_config",
    ]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    for line in (
        "train.epochs = 2.0",
        "data.dir = '/pets'",
        "model.options.width = 16",
        "data.image_size = (128, 128)",
    ):
        assert line in lines


def test_print_config_lists_the_options_that_are_not_set(capsys):
    arguments = [
        "--config=shapes",
        "--config.model.name=fpn",
        "--config.model.options.encoder=mit_b0",
        "--print_config",
    ]
    assert main([*arguments, "--config.loss.focal=0.5"]) == 0
    given, options = capsys.readouterr().out.split("\n\n# options that have their defaults\n")
    assert "model.options.encoder = 'mit_b0'" in given and "model.options.encoder " not in options
    lines = options.splitlines()
    for start in ("model.options.encoder_depth = ", "data.options.seed = ", "loss_options.focal.gamma = 2.0 # "):
        assert any(line.startswith(start) for line in lines), start
    assert "optimizer.options.b1 = 0.9 # the decay rate of the average of gradients, from 0 to below 1." in lines
    assert max(map(len, lines)) <= 140


def test_errors_are_printed_without_a_traceback(tmp_path):
    command = ("--config=configs/shapes.py", f"--workdir={tmp_path}/run", "--config.model.name=unett")
    done = run(*command, "--config.train.batch_size=0", "--config.loss_options.cross_entropy.smoothing=1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: 3 errors in the configuration:\n")
    assert "did you mean 'unet'?" in done.stderr
    assert "config.train.batch_size = 0" in done.stderr
    assert (
        "config.loss_options.cross_entropy.smoothing = 1: no such option; did you mean 'label_smoothing'?"
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_unknown_keys_and_files_suggest_the_nearest(capsys):
    assert main(["--config=configs/shapes.py", "--config.optimzier.name=sgd", "--config.trian.steps", "3"]) == 1
    error = capsys.readouterr().err
    assert "2 errors in the configuration" in error
    assert "config.optimzier.name: no such key; did you mean 'optimizer.name'?" in error
    assert "config.trian.steps: no such key; did you mean 'train.steps'?" in error
    assert main(["--config=configs/shape.py"]) == 1
    assert "did you mean 'configs/shapes.py'?" in capsys.readouterr().err


def test_a_key_without_a_value_does_not_take_the_next_flag_as_its_value(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--config=configs/shapes.py", "--config.data.dir", "--config.train.steps=4"])
    assert stopped.value.code == 2
    assert "--config.data.dir has no value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr=3"], "unrecognized arguments: --lr=3; the learning rate is optimizer.learning_rate; keys of the "),
        (["--data.dir=my photos"], "unrecognized arguments: --data.dir=my photos; keys of the configuration are set by "
         "--config.KEY=VALUE, as in --config.data.dir=my photos\n"),
        (["config.train.steps"], "as in --config.train.steps=VALUE\n"),
        (["--config.data.dir", "=", "pair"], "--config.data.dir has no value; write --config.data.dir=VALUE, without "),
        (["pair", "--fast"], "unrecognized arguments: pair --fast\n"),
    ],
)  # fmt: skip
def test_keys_that_are_set_in_another_way_show_how(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--config=shapes", *arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_stops_with_a_checkpoint(tmp_path, number):
    command = [sys.executable, "-m", "flaxseg.main", "--config=configs/shapes.py:tiny", f"--workdir={tmp_path}/run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    settings = ["--config.train.steps=100000", "--config.eval.every=100000", "--config.checkpoint.every=5"]
    settings += ["--config.log.writer=tensorboard"]  # Without importing TensorFlow.
    process = subprocess.Popen([*command, *settings], **pipes)
    while not (tmp_path / "run" / "checkpoints" / "5").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number, error
    step = int(re.search(r"stopped at step (\d+); repeat the command to resume", error)[1])
    assert 0 < step < 100000
    assert (tmp_path / "run" / "checkpoints" / str(step)).is_dir()
    assert re.fullmatch(rf"\ncheckpoints   {tmp_path}/run/checkpoints \(none evaluated yet; .* in all\)\n", output)


def test_a_run_prints_its_scores_and_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flaxseg.cli.prepare", lambda verbose: None)
    assert main(["--config=configs/shapes.py:tiny", f"--workdir={tmp_path}/run", "--config.train.steps=3"]) == 0
    text = capsys.readouterr().out
    for part in ("mIoU", "triangle", f"images        {tmp_path}/run/images", "best: step 3", "tensorboard --logdir"):
        assert part in text


@pytest.mark.parametrize("best_step", [40, 30])
def test_the_best_checkpoint_is_named_once(best_step, capsys, tmp_path):
    state = types.SimpleNamespace(step=40)
    result = Result(None, ("a", "b"), state, best_step=best_step, best_score=0.67441, evaluated_step=40)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "file").write_bytes(bytes(2**21))
    _report(result, load_config("shapes"), tmp_path)
    text = capsys.readouterr().out
    line = "\nflaxseg.load, evaluate, predict and export use the best checkpoint, step 30 (miou 0.6744)\nimages "
    assert (line in text) == (best_step == 30) and text.count("0.6744") == 1
    size = re.search(r"checkpoints   \S+ \((.*)\)", text)[1]
    assert size == {30: "2.0 MiB in all", 40: "best: step 40, miou 0.6744; 2.0 MiB in all"}[best_step]


def test_a_run_that_a_signal_stopped_ends_with_how_to_resume_it_and_no_table(capsys, tmp_path):
    scores = types.SimpleNamespace(table=lambda names: "mIoU 0.5")
    state = types.SimpleNamespace(step=41)
    result = Result(scores, ("a", "b"), state, best_step=30, best_score=0.5, evaluated_step=40, stopped_by=2)
    _report(result, load_config("shapes"), tmp_path)
    printed = capsys.readouterr()
    assert printed.out == f"\ncheckpoints   {tmp_path}/checkpoints (best: step 30, miou 0.5000)\n"
    assert printed.err == "stopped at step 41; repeat the command to resume\n"


def test_a_run_without_evaluation_names_its_latest_checkpoint(capsys, tmp_path):
    result = Result(None, ("a", "b"), types.SimpleNamespace(step=40), best_step=None)
    _report(result, load_config("shapes", ["data.eval_split="]), tmp_path)
    text = capsys.readouterr().out
    assert text.startswith("\nnot evaluated, because config.data.eval_split is ''\n\ncheckpoints ")
    assert "(latest: step 40)" in text and "images" not in text
    _report_together({"seed-7": result}, load_config("shapes", ["data.eval_split="]), tmp_path)
    text = capsys.readouterr().out
    assert text.startswith(f"\n{NOT_EVALUATED}\n") and "(step 40, latest: step 40)" in text
