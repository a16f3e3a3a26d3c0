"""Serving an exported network over HTTP, with ONNX Runtime and the standard library; the server needs no flaxseg.

pip install -e '.[onnx]'  # in a clone; elsewhere 'flaxseg[onnx]'
flaxseg export --model=runs/shapes --output=exported/shapes --format=onnx --argmax --image_size=64,64
python examples/serve_onnx.py exported/shapes
curl --data-binary @photo.png http://127.0.0.1:8000/ > mask.png
"""

import http.server
import io
import json
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

MAX_BYTES = 50_000_000


class Segmenter:
    """A network in a folder that `flaxseg.export --format=onnx --argmax` wrote."""

    def __init__(self, folder: str) -> None:
        import onnxruntime

        description = json.loads(Path(folder, "model.json").read_text(encoding="utf-8"))
        self.height, self.width = description["image_size"]
        self.palette = [value for color in description["palette"] for value in color]
        self._session = onnxruntime.InferenceSession(Path(folder, "model.onnx"))

    def __call__(self, photo: Image.Image) -> Image.Image:
        """Returns the mask of a photo at its own size, with the colors of the classes as palette."""
        small = photo.convert("RGB").resize((self.width, self.height), Image.Resampling.BILINEAR)
        image = np.asarray(small, np.float32)[None]  # The program normalizes values of 0..255 itself.
        (classes,) = self._session.run(None, {"image": image})
        mask = Image.fromarray(classes[0]).resize(photo.size, Image.Resampling.NEAREST)
        mask.putpalette(self.palette)
        return mask


def make_server(segment: Segmenter, port: int) -> http.server.ThreadingHTTPServer:
    """Returns a server that answers an image with its mask as PNG; port 0 takes a free one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= MAX_BYTES:
                return self.send_error(413, f"send an image of at most {MAX_BYTES:,} bytes")
            try:
                mask = segment(Image.open(io.BytesIO(self.rfile.read(length))))
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                return self.send_error(400, f"not an image: {type(error).__name__}")
            mask.save(body := io.BytesIO(), "PNG")
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(body.getvalue())

    return http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main(folder: str, photo: bytes) -> bytes:
    """Starts a server, sends it one image, and returns the mask that it answers, a PNG file."""
    with make_server(Segmenter(folder), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer = urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", data=photo).read()
        server.shutdown()
    return bytes(answer)


if __name__ == "__main__":
    make_server(Segmenter(sys.argv[1]), port=8000).serve_forever()
