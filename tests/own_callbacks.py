"""Callbacks of a user's own, as a configuration names them."""

import os
import signal
import time

from flaxseg.train.callbacks import Callback

made = []
"""The callbacks that were made, in order."""


class Recorder(Callback):
    """Records events.

    Args:
      workdir: the working directory of the run.
      config: the configuration of the run.
      fail_at: the evaluated step at which it raises an error; 0: none.
    """

    def __init__(self, *, workdir, config, fail_at: int = 0):
        self.workdir, self.seed, self.fail_at = workdir, config.seed, fail_at
        self.events = []
        made.append(self)

    def on_start(self, run, state):
        self.events.append(("start", int(state.step)))

    def on_evaluation(self, step, evaluation):
        self.events.append(("evaluation", step))
        if step == self.fail_at:
            raise RuntimeError("the callback fails")

    def on_end(self, result):
        self.events.append(("end", result.best_step))

    def on_error(self, error):
        self.events.append(("error", str(error)))
        raise OSError("so does this")


def plain():
    """Returns a callback that does nothing."""
    return Callback()


def positional(path):
    """Returns a callback, but cannot be configured."""
    return plain()


def text():
    """Returns no callback."""
    return "text"


def needs_a_package():
    """Imports what is not there."""
    import no_such_package

    return no_such_package


class Stopper(Callback):
    """Sends this process SIGTERM at the first evaluation, and waits until the run has noticed."""

    def on_evaluation(self, step, evaluation):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
