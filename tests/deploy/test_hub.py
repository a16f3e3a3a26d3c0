"""Uploads to a local server that answers like the hub; each failure is one error."""

import base64
import http.server
import json
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from flaxseg.deploy.hub import push
from flaxseg.errors import ExportError


class Hub(http.server.BaseHTTPRequestHandler):
    """Creates any repository but those of `others`, and takes files whole."""

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunks()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization', 'me')}/{wanted['name']}"
            self.server.created[name] = wanted.get("private")
            forbidden = name.startswith("others/")
            self._answer(403 if forbidden else 200, {} if forbidden else {"url": f"{constants.ENDPOINT}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            self._answer(200, {"files": modes})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            for line in lines:
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            name = self.path.removeprefix("/api/models/").split("/commit/")[0]
            self._answer(200, {"commitUrl": f"{constants.ENDPOINT}/{name}/commit/0123", "commitOid": "0123"})
        else:
            self._answer(404, {})

    def do_GET(self) -> None:
        self._answer(404, {})

    def _chunks(self) -> bytes:
        found = b""
        while length := int(self.rfile.readline(), 16):
            found += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch):
    """Yields a running server with the attributes `created` and `files`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.created, server.files = {}, {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_local")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"README.md": "---\nlicense: mit\n---\n", "model.json": "{}", "notes.txt": "private"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)))
    return tmp_path


def test_the_files_of_an_export_are_uploaded_and_no_others(hub, folder):
    assert push(folder, "lab/net", private=True) == f"{constants.ENDPOINT}/lab/net/commit/0123"
    assert list(hub.created) == ["lab/net"]
    assert hub.files == {
        name: (folder / name).read_bytes() for name in ("README.md", "model.json", "model.safetensors")
    }


@pytest.mark.parametrize("repository", ["others/net", "no name", "lab/net/more"])
def test_each_failure_is_one_message(hub, folder, repository):
    with pytest.raises(ExportError) as caught:
        push(folder, repository)
    message = str(caught.value)
    assert message.startswith(f"--push={repository}: {folder} cannot be uploaded to the Hugging Face hub (")
    assert "check the name as OWNER/NAME, the network, and that HF_TOKEN may write there" in message
    assert not hub.files
