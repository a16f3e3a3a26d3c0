"""Reads damaged files and reports every failure, in a process of its own that a failure may end.

python -m fuzzing FIRST COUNT reads that many files, whose seeds begin at FIRST, and prints a line of JSON for each
failure and one of totals. python -m fuzzing KIND SEED [FILE] repeats one case, and saves the damaged file.
"""

import collections
import json
import pathlib
import random
import resource
import sys
import time
import traceback
import warnings

from flaxseg.errors import CheckpointError, ConfigError, FlaxsegError
from flaxseg.models.pretrained.manifest import Damaged
from fuzzing.mutations import mutated
from fuzzing.originals import KINDS, original
from fuzzing.readers import MEGAPIXELS, read

MAX_SECONDS = 2.0
"""CPU time for one file, over all of its readers."""

MAX_MESSAGE = 2000

MAX_MEMORY = 4 * int(MEGAPIXELS * 1e6) * 16 + 2**25
"""Bytes for one file beyond what the process has: four times the largest image that is read, of four float32 channels,
and 32 MiB for what the allocator keeps."""

_ADDRESS_SPACE = 16 * 2**30


def reset_peak() -> int:
    """Resets the peak of this process's memory, and returns its present memory."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    line = next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def run_case(kind: str, seed: int) -> dict:
    """Reads one damaged file; returns what was wrong, and the time and memory that it took."""
    data = mutated(kind, seed)
    wrong, outcome = [], "read"
    leaks.clear()
    before, start = reset_peak(), time.process_time()
    results = list(read(kind, data))
    seconds, memory = time.process_time() - start, _status("VmHWM") - before
    for result in results:
        if isinstance(result, FlaxsegError | Damaged):
            outcome, message = "refused", str(result)
            # Those two list every error and every difference, one a line.
            is_list = isinstance(result, ConfigError | CheckpointError)
            if not is_list and ("\n" in message or len(message) > MAX_MESSAGE):
                wrong.append(
                    f"a message of {len(message)} characters, {message.count(chr(10))} line breaks: {message[:100]!r}"
                )
        elif isinstance(result, Exception):
            place = traceback.extract_tb(result.__traceback__)[-1]
            wrong.append(f"{type(result).__name__} in {place.filename}:{place.lineno}: {str(result)[:200]}")
    del results
    if seconds > MAX_SECONDS:
        wrong.append(f"took {seconds:.2f} s")
    if memory > MAX_MEMORY + 2 * len(data):
        wrong.append(f"took {memory / 2**20:,.0f} MiB for {len(data):,} bytes")
    wrong += [f"left open: {leak}" for leak in leaks]
    return {"case": f"{kind} {seed}", "wrong": wrong, "outcome": outcome, "seconds": seconds, "memory": memory}


leaks: list[str] = []


def main(first: int, count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, hard))
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", ResourceWarning)
    sys.unraisablehook = lambda lost: leaks.append(str(lost.exc_value))
    for kind in KINDS:
        # Undamaged files are read, and what the readers import is not part of the measurement.
        for result in read(kind, original(kind)):
            if isinstance(result, Exception) and not isinstance(result, FlaxsegError):
                raise result
    totals: collections.Counter = collections.Counter()
    slowest = largest = {"case": "", "seconds": 0.0, "memory": 0}
    for seed in range(first, first + count):
        kind = random.Random(seed).choice(list(KINDS))
        print(f"{kind} {seed}", flush=True)
        found = run_case(kind, seed)
        totals[found["outcome"]] += 1
        slowest = max(slowest, found, key=lambda case: case["seconds"])
        largest = max(largest, found, key=lambda case: case["memory"])
        if found["wrong"]:
            print(json.dumps(found), flush=True)
    summary = {"cases": count, **totals, "slowest": [slowest["case"], round(slowest["seconds"], 2)]}
    print(json.dumps({**summary, "largest": [largest["case"], f"{largest['memory'] / 2**20:.0f} MiB"]}), flush=True)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        main(int(sys.argv[1]), int(sys.argv[2]))
    else:
        for path in sys.argv[3:]:
            pathlib.Path(path).write_bytes(mutated(sys.argv[1], int(sys.argv[2])))
        print(json.dumps(run_case(sys.argv[1], int(sys.argv[2])), indent=1))
        for error in read(sys.argv[1], mutated(sys.argv[1], int(sys.argv[2]))):
            print(repr(error)[:300])
