"""Downloads from a local hub, and from the cache; each failure is one error."""

import errno
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained import hub as hub_module
from flaxseg.models.pretrained.hub import download

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = "model.safetensors"
DATA = bytes(range(256)) * 9
REMEDY = "give its path instead"

ERRORS = {
    f"/lab/none/resolve/main/{FILE}": (401, "RepoNotFound"),
    f"/lab/gated/resolve/main/{FILE}": (403, "GatedRepo"),
    f"/lab/net/resolve/v9/{FILE}": (404, "RevisionNotFound"),
    "/lab/net/resolve/main/other.safetensors": (404, "EntryNotFound"),
    f"/lab/down/resolve/main/{FILE}": (503, ""),
    f"/lab/broken/resolve/main/{FILE}": (400, ""),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers like the hub, for the repository lab/net at `main` and COMMIT."""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(DATA)

    def _answer(self, body: bytes) -> None:
        # The library also requests other resources.
        if "/resolve/" in self.path:
            self.server.asked.append((self.command, self.path))
        status, code = ERRORS.get(self.path, (200, ""))
        self.send_response(status)
        if status == 200:
            # One repository sends less than it announces.
            length = len(DATA) + 5 * ("short" in self.path)
            self.send_header("ETag", '"5e1f"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            length, body = 0, b""
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub():
    """Yields a running server, whose attribute `asked` lists the requests of files."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, cache: Path, *, port: int = 9, offline: bool = False) -> None:
    """Points the library, which reads its environment variables when imported, to a local server and a cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    # Between attempts the library would wait, in total for half a minute.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(hub_module, "_answers", {})


def cached(cache: Path, *, revision: str = "main") -> Path:
    """Creates a cache like the library's, and returns the path of its file."""
    folder = cache / "models--lab--net"
    path = folder / "snapshots" / COMMIT / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    (folder / "refs").mkdir()
    (folder / "refs" / revision).write_text(COMMIT)
    return path


def test_a_file_is_downloaded_once(tmp_path, monkeypatch, hub):
    use(monkeypatch, tmp_path / "cache", port=hub.server_port)
    path = download("lab/net", FILE, revision=COMMIT)
    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path / "cache")
    address = f"/lab/net/resolve/{COMMIT}/{FILE}"
    # The first request is whether there is a network.
    assert hub.asked == [("HEAD", address), ("HEAD", address), ("GET", address)]
    assert download("lab/net", FILE, revision=COMMIT) == path
    assert len(hub.asked) == 3


@pytest.mark.parametrize("revision", ["main", COMMIT])
@pytest.mark.parametrize("offline", [False, True], ids=["no network", "offline"])
def test_the_cache_needs_no_network(tmp_path, monkeypatch, offline, revision):
    use(monkeypatch, tmp_path, offline=offline)
    path = cached(tmp_path)
    assert download("lab/net", FILE, revision=revision) == path


REFUSED = {
    "repository": (("lab/none", FILE, "main"), ("has no such repository, or it is private", "HF_TOKEN")),
    "terms": (("lab/gated", FILE, "main"), ("asks its users to log in and accept its terms", "HF_TOKEN")),
    "revision": (("lab/net", FILE, "v9"), ("no such revision", "commit, tag or branch")),
    "file": (("lab/net", "other.safetensors", "main"), ("no such file at that revision", "its page lists")),
    "server down": (("lab/down", FILE, "main"), ("does not answer with it", "503", "check the network")),
    "odd answer": (("lab/broken", FILE, "main"), ("does not answer with it (BadRequestError: Bad request)",)),
    "cut off": (("lab/short", FILE, "main"), ("ProtocolError",)),
    "name": (("lab net", FILE, "main"), ("HFValidationError", "lab net")),
    "file outside": (("lab/net", f"../../../{FILE}", "main"), ("ValueError: Invalid",)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_each_failure_is_one_message(tmp_path, monkeypatch, hub, kind):
    (repository, filename, revision), says = REFUSED[kind]
    use(monkeypatch, tmp_path / "cache", port=hub.server_port)
    with pytest.raises(WeightsError) as caught:
        download(repository, filename, revision=revision)
    for part in (
        f"{filename} of {repository} at revision {revision} cannot be downloaded",
        *says,
        REMEDY,
        "HF_HUB_CACHE",
    ):
        assert part in str(caught.value)
    assert not list(tmp_path.rglob(f"snapshots/*/{filename}"))


def test_an_unreachable_hub_is_named(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    use(monkeypatch, tmp_path, port=port)
    said = rf"127\.0\.0\.1:{port} does not answer with it \(.*not in the cache {tmp_path}; check the network"
    with pytest.raises(WeightsError, match=said):
        download("lab/net", FILE, revision="main")


def never(*_: object) -> None:
    raise AssertionError("the library waits to try again")


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "not cached"])
@pytest.mark.parametrize("kind", ["closed port", "silent server"])
def test_without_an_answer_only_the_cache_is_searched(tmp_path, monkeypatch, kind, is_cached):
    with socket.create_server(("127.0.0.1", 0)) as listening:  # It accepts connections, and answers nothing.
        use(monkeypatch, tmp_path, port=listening.getsockname()[1] if kind == "silent server" else 9)
        monkeypatch.setattr(time, "sleep", never)
        monkeypatch.setattr(hub_module, "SECONDS_TO_ANSWER", 0.2)
        path = cached(tmp_path) if is_cached else None
        asked = []
        for _ in range(2):
            if is_cached:
                assert download("lab/net", FILE, revision="main") == path
            else:
                with pytest.raises(WeightsError) as caught:
                    download("lab/net", FILE, revision="main")
            asked.append(hub_module._answers[constants.ENDPOINT])
        assert asked[0] is asked[1] and asked[0][1] is not None  # The server is not asked again at once.
    if not is_cached:
        for part in ("does not answer with it", "not in the cache", "check the network", REMEDY, "HF_HUB_OFFLINE=1"):
            assert part in str(caught.value)


def test_a_server_is_asked_again_after_a_while(tmp_path, monkeypatch, hub):
    use(monkeypatch, tmp_path, port=hub.server_port)
    silence = TimeoutError("no answer")
    long_ago = time.monotonic() - 61
    hub_module._answers[constants.ENDPOINT] = long_ago, silence
    assert download("lab/net", FILE, revision="main").read_bytes() == DATA


@pytest.mark.parametrize("revision", ["v2", COMMIT])
def test_offline_a_file_that_is_not_cached_is_named(tmp_path, monkeypatch, revision):
    use(monkeypatch, tmp_path, offline=True)
    with pytest.raises(WeightsError, match=rf"not in the cache {tmp_path}, and HF_HUB_OFFLINE forbids the network"):
        download("lab/net", FILE, revision=revision)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "is full; set HF_HUB_CACHE to a folder with more space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "is full; set HF_HUB_CACHE"),
        (PermissionError(errno.EACCES, "Permission denied", "/c"), "cannot be written .*'/c'.*a folder of your own"),
        (RuntimeError("first line.\nsecond"), "RuntimeError: first line. second. Or download"),
        (RuntimeError(), "RuntimeError. Or download"),
    ],
)
def test_errors_of_the_disk_are_reported(tmp_path, monkeypatch, error, says):
    use(monkeypatch, tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(WeightsError, match=says):
        download("lab/net", FILE, revision="main")


@pytest.mark.parametrize("filename", ["pytorch_model.bin", "net.pth", "model.safetensors.zip", "", "safetensors"])
def test_only_safetensors_files_are_downloaded(monkeypatch, filename):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(WeightsError, match=r"lab/net: .*only \.safetensors files are taken"):
        download("lab/net", filename, revision="main")


def run_alone(program: str, **variables: str) -> str:
    environment = os.environ | {"NO_PROXY": "127.0.0.1"} | variables
    command = [sys.executable, "-c", f"from flaxseg.models.pretrained.hub import download\n{program}"]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_the_hubs_environment_variables_apply(tmp_path, hub):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    program = f"import sys; print('huggingface_hub' in sys.modules, download('lab/net', {FILE!r}, revision='main'))"
    found = run_alone(program, HF_HOME=str(tmp_path), HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
    path = tmp_path / "hub" / "models--lab--net" / "snapshots" / COMMIT / FILE
    assert found == f"False {path}"
    asked = len(hub.asked)
    assert run_alone(program, HF_HOME=str(tmp_path), HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1") == found
    assert len(hub.asked) == asked
