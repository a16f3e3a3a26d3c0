"""The compilation of a run's step in a thread, while its state is restored and its first batches are read."""

import contextlib
import threading
from typing import Any

import jax
import numpy as np

from flaxseg import host_memory
from flaxseg.train.build import Run
from flaxseg.train.compile import Compiled, Turn
from flaxseg.train.sharding import batch_shapes, replicated


class EarlyCompilation:
    """The jitted functions of a run, whose training step can be compiled in a thread before it is called.

    JAX keeps the compiled step, so that the call finds it. If the thread cannot compile it, because an example cannot
    be read or a loss raises an error, then the call, or the reading of the batch, meets the same error, at its own
    place in the run.

    Args:
      run: the run.
      compiled: its jitted functions.

    Attributes:
      compiled: the jitted functions.
    """

    def __init__(self, run: Run, compiled: Compiled) -> None:
        self.compiled = compiled
        self._run = run
        self._thread: threading.Thread | None = None
        self._is_lowered = threading.Event()

    def start(self, state: Any, *, step: int) -> None:
        """Begins to compile the training step.

        Args:
          state: the shapes, types and shardings of the state.
          step: the step at which the run begins, whose batch is read for its shapes.
        """
        self._thread = threading.Thread(target=self._compile, args=(state, step), name="flaxseg-compilation")
        self._thread.start()

    def wait_for_python(self) -> None:
        """Waits until the rest of the compilation, if any, no longer competes with Python's other threads."""
        if self._thread is not None:
            self._is_lowered.wait()

    def wait(self) -> None:
        """Waits until the step is compiled, or could not be; returns at once if nothing is being compiled."""
        if self._thread is not None:
            self._thread.join()

    def _compile(self, state: Any, step: int) -> None:
        # The caller meets any error itself; see above.
        with contextlib.suppress(Exception):
            try:
                lowered = self.compiled.train.lower(*_arguments(self._run, state, step))  # type: ignore[attr-defined]
            finally:
                self._is_lowered.set()
            lowered.compile()
            host_memory.give_back()


def _arguments(run: Run, state: Any, step: int) -> tuple[Any, ...]:
    """Returns the shapes of the arguments of the training step, as the training loop passes them."""
    data, mesh, call = run.data, run.loop.mesh, run.loop.call
    if data.views is not None:
        raise ValueError("the features of a frozen encoder have not been computed yet")
    batch = batch_shapes(data.train_batches[step], mesh, size=call.batch_size, steps=call.steps)
    key = jax.eval_shape(jax.random.key, 0)
    skipped = jax.ShapeDtypeStruct((), np.int32, sharding=replicated(mesh))
    stored, turn = data.load_cache.shapes() if data.load_cache else {}, Turn(0, skipped, 0)  # type: ignore[arg-type]
    return state, batch, key, stored, turn, run.optim.arguments
