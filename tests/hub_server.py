"""A local server that answers like the Hugging Face hub, for the tests that download repositories from it."""

import hashlib
import http.server
import threading
import time

import pytest
from huggingface_hub import constants
from public_repositories import COMMIT

from flaxseg.models.pretrained import hub as hub_module


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files[repository][filename]` at `main` and COMMIT."""

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, filename = rest.partition("/")
        if rest:
            self.server.asked.append((self.command, filename))
        status, code = self._status(repository, revision, filename)
        data = b"" if code else self.server.files[repository][filename]
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        else:
            digest = self.server.digests.get(filename, hashlib.sha256(data).hexdigest())
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def _status(self, repository, revision, filename):
        if repository in self.server.gated:
            return self.server.gated[repository], "GatedRepo"
        if repository not in self.server.files:
            return 401, "RepoNotFound"
        if revision not in ("main", COMMIT):
            return 404, "RevisionNotFound"
        return (200, "") if filename in self.server.files[repository] else (404, "EntryNotFound")

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Yields a running server that huggingface_hub uses, with an empty cache.

    Its attributes: `files` by repository and name, `asked` requests, `digests` that it announces instead of a file's
    own, and `gated` statuses by repository.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.files, server.asked, server.digests, server.gated = {}, [], {}, {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # Between attempts the library would wait, in total for half a minute.
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        monkeypatch.setattr(hub_module, "_answers", {})
        yield server
        server.shutdown()
        thread.join()
