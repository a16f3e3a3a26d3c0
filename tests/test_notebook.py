"""What a run shows in a notebook, with a stand-in for the notebook."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from flaxseg import notebook
from flaxseg.errors import ArgumentError, DataError, FlaxsegError
from flaxseg.notebook import LiveCurves, download, live_figure, show_short_errors, upload
from flaxseg.report.panels import Predicted


class Handle:
    """A displayed picture, and those that replaced it."""

    def __init__(self):
        self.shown = []

    def update(self, picture):
        self.shown.append(picture)


@pytest.fixture
def display(monkeypatch):
    """Replaces IPython's display; `display.calls` lists what was displayed, and `display.handle` was returned."""
    module = types.ModuleType("IPython.display")
    module.calls, module.handle = [], Handle()
    module.Image, module.FileLink, module.HTML = lambda data: data, lambda path: f"link to {path}", str

    def show(*objects, display_id=None):
        module.calls.append(objects)
        return module.handle if display_id else None

    module.display = show
    package = types.ModuleType("IPython")
    package.display = module
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return module


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, unless a test moves it; each drawing takes half a second."""
    time = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(notebook.time, "monotonic", lambda: time.now)
    drawn = []

    def draw(loss, scores, *, steps, predictions):
        time.now += 0.5
        drawn.append(({"loss": [*loss], **{name: [*curve] for name, curve in scores.items()}}, steps, len(predictions)))
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(notebook, "live_figure", draw)
    time.drawn = drawn
    return time


def a_run():
    dataset = types.SimpleNamespace(palette=((0, 0, 0), (255, 0, 0)))
    data, loop = types.SimpleNamespace(to_show=dataset), types.SimpleNamespace(total_steps=50)
    return types.SimpleNamespace(data=data, loop=loop)


def an_evaluation(miou, rows=3):
    image, label = np.zeros((2, 2, 3), np.uint8), np.array([[0, 1], [1, 255]], np.uint8)
    images = [Predicted(image, label, label, "")] * rows
    return types.SimpleNamespace(scores={"miou": miou, "other": 0.0}, images=images)


def test_curves_are_drawn_in_one_place_at_evaluations_and_now_and_then(display, clock):
    curves = LiveCurves(("miou", "absent"), images=2)
    curves.on_start(a_run(), types.SimpleNamespace(step=0))
    curves.on_log(5, {"loss": 3.0}, None)  # Half a second of drawing allows the next one after ten seconds.
    curves.on_evaluation(6, an_evaluation(0.25))
    clock.now += 9.9
    curves.on_log(10, {"loss": 2.0}, None)
    assert len(clock.drawn) == 2
    clock.now += 0.1
    curves.on_log(15, {"loss": 1.0}, None)
    curves.on_end(None)
    assert clock.drawn[1] == ({"loss": [(5, 3.0)], "miou": [(6, 0.25)], "absent": []}, 50, 2)
    assert clock.drawn[3] == ({"loss": [(5, 3.0), (10, 2.0), (15, 1.0)], "miou": [(6, 0.25)], "absent": []}, 50, 2)
    assert display.calls == [("",)] and len(display.handle.shown) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in display.handle.shown)


def test_a_return_to_a_checkpoint_forgets_what_came_after_it(display, clock):
    curves = LiveCurves()
    curves.on_start(a_run(), types.SimpleNamespace(step=0))
    for step in (4, 8):
        curves.on_log(step, {"loss": float(step)}, None)
        curves.on_evaluation(step, an_evaluation(step / 10))
    curves.on_start(a_run(), types.SimpleNamespace(step=4))
    assert clock.drawn[-1][0] == {"loss": [(4, 4.0)], "miou": [(4, 0.4)], "pixel_accuracy": []}


def test_the_figure_shows_curves_above_predictions():
    empty = live_figure([], {"miou": []}, steps=0)
    curve = live_figure([(1, 3.0), (9, 1.0)], {"miou": [(9, 0.5)]}, steps=10)
    assert empty.shape == curve.shape == (300, 900, 3)
    assert (empty[:, :450] != curve[:, :450]).any() and (empty[:, 450:] != curve[:, 450:]).any()
    red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    both = live_figure([], {}, steps=10, predictions=[red, red])
    assert both.shape == (560, 900, 3)
    is_red = (both == (255, 0, 0)).all(-1)
    assert not is_red[:300].any() and is_red[300:, :450].sum() == is_red[300:, 450:].sum() > 10_000


def test_arguments_are_checked(display):
    with pytest.raises(ArgumentError, match="images = -1: must be an integer of at least 0"):
        LiveCurves(images=-1)


def test_without_ipython_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    for call in (LiveCurves, show_short_errors):
        with pytest.raises(FlaxsegError, match=r"IPython is not installed.*run this in a notebook, or pip install"):
            call()


def test_errors_about_input_are_one_message(display, capsys):
    found = {}
    shell = types.SimpleNamespace(set_custom_exc=lambda kinds, handler: found.update(kinds=kinds, handler=handler))
    sys.modules["IPython"].get_ipython = lambda: shell
    show_short_errors()
    assert issubclass(DataError, found["kinds"]) and not issubclass(ValueError, found["kinds"])
    assert found["handler"](shell, DataError, DataError("x.png: is empty"), None, tb_offset=1) is None
    assert capsys.readouterr().err == "error: x.png: is empty\n"
    sys.modules["IPython"].get_ipython = lambda: None
    show_short_errors()  # In a script, nothing.


def png():
    Image.new("RGB", (3, 2)).save(body := io.BytesIO(), "PNG")
    return body.getvalue()


@pytest.fixture
def colab(monkeypatch):
    files = types.ModuleType("google.colab.files")
    files.upload, files.downloaded = lambda: {"../a.png": png()}, []
    files.download = files.downloaded.append
    for module in (types.ModuleType("google"), types.ModuleType("google.colab"), files):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return files


def test_colab_uploads_and_downloads_with_its_own_dialogs(colab, tmp_path):
    found = []
    upload(lambda path: found.append((path.name, path.read_bytes())))
    assert found == [("a.png", png())]
    (tmp_path / "run.zip").write_bytes(b"zip")
    download(tmp_path / "run.zip")
    assert colab.downloaded == [str(tmp_path / "run.zip")]


def test_jupyter_uploads_with_a_button(display, monkeypatch, capsys):
    observed = {}

    class Output:
        def __enter__(self):
            return self

        def __exit__(self, *error): ...

    widgets = types.ModuleType("ipywidgets")
    widgets.FileUpload = lambda multiple: types.SimpleNamespace(observe=lambda f, names: observed.update({names: f}))
    widgets.Output = Output
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    names = []

    def use(path):
        names.append(path.name)
        if path.name == "bad.png":
            raise DataError(f"{path.name}: is empty")

    upload(use)
    assert len(display.calls) == 1 and names == []
    observed["value"]({"new": [{"name": name, "content": memoryview(b"")} for name in ("bad.png", "good.png")]})
    assert names == ["bad.png", "good.png"]
    assert capsys.readouterr().err == "error: bad.png: is empty\n"


def test_jupyter_without_widgets_says_what_to_do(display, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    upload(lambda path: pytest.fail("there is no file"))
    assert "install ipywidgets" in capsys.readouterr().out and display.calls == []


def test_jupyter_downloads_by_a_link(display, tmp_path):
    (tmp_path / "run.zip").write_bytes(b"zip")
    download(tmp_path / "run.zip")
    assert display.calls == [(f"link to {tmp_path}/run.zip",)]
    with pytest.raises(FlaxsegError, match=r"run: is not a file; a folder has to be packed first"):
        download(tmp_path / "run")
