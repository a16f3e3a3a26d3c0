"""Event files are read in one thread and opened in another: tensorboard's modules are imported in one at a time."""

import subprocess
import sys

PROGRAM = """if True:
    import sys
    from pathlib import Path
    from flaxseg.report.event_files import IMPORTS, drop_repeated_events, event_files
    from flaxseg.report.metric_writers import TensorBoardWriter

    class Finder:
        names = []
        def find_spec(self, name, path=None, target=None):
            if name.startswith("tensorboard."):
                assert IMPORTS._is_owned(), name
                self.names.append(name)

    sys.meta_path.insert(0, Finder())
    folder = Path(sys.argv[1])
    if sys.argv[2] == "read":
        drop_repeated_events(event_files(folder), 0)
    else:
        TensorBoardWriter(folder)
    assert Finder.names
"""


def test_modules_are_imported_while_the_lock_is_held(tmp_path):
    for action in ("open", "read"):
        subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), action], check=True)
