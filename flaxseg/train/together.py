"""The steps that several runs take together: in one batched program on accelerators, one after another on the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flaxseg.train.build import Run
from flaxseg.train.compile import Call, options_of, training_program
from flaxseg.train.early_compilation import EarlyCompilation
from flaxseg.train.fit import Member, one_by_one
from flaxseg.train.lockstep import TakeStep
from flaxseg.train.sharding import replicated
from flaxseg.train.step import TrainState


def step_together(members: Sequence[Member], compilation: EarlyCompilation) -> TakeStep:
    """Returns what takes the next step of some of several runs; see `fit_members`.

    Args:
      members: the runs.
      compilation: the jitted functions of one of them.
    """
    platform = members[0].run.loop.mesh.devices.flat[0].platform
    # XLA's CPU backend is slow at the grouped convolutions of a batched step, and slower yet at any convolution in the
    # body of a loop, such as that of `jax.lax.map`.
    return one_by_one(compilation) if platform == "cpu" else Batched(members)


_NEVER = -1
"""The number of no step; see `Turn`."""


class Batched:
    """Takes the steps of several runs in one program, which is batched over the runs with `jax.vmap`.

    The program always computes a step of every run, so that it stays the same, bit for bit, whichever of them have
    ended. The states of those that are not due do not change.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._program = _batched_program(members[0].run, members[0].state, len(members))

    def __call__(self, due: Sequence[Member]) -> Sequence[Call]:
        """Takes the next step of those that are due, and returns what the program returned for each of them."""
        inputs = {id(each): each.inputs() for each in due}
        first = inputs[id(due[0])]
        idle = first._replace(turn=first.turn._replace(number=_NEVER))
        given = [inputs.get(id(each), idle) for each in self._members]
        states = tuple(each.state for each in self._members)
        batches, keys, turns, hyperparameters = (
            tuple(getattr(each, name) for each in given) for name in ("batch", "key", "turn", "hyperparameters")
        )
        calls = self._program(states, batches, keys, first.stored, turns, hyperparameters)
        for each, call in zip(self._members, calls, strict=True):
            each.state = call.state  # The buffers of every state were donated.
        return [call for each, call in zip(self._members, calls, strict=True) if id(each) in inputs]


def _batched_program(run: Run, state: TrainState, count: int) -> Callable[..., Sequence[Call]]:
    """Returns the jitted program of several runs, whose arguments, except for `stored`, and results are tuples."""
    train = jax.vmap(training_program(run), in_axes=(0, 0, 0, None, 0, 0))

    def train_all(states: Any, batches: Any, keys: Any, stored: Any, *others: Any) -> tuple[Call, ...]:
        call = train(_stack(states), _stack(batches), _stack(keys), stored, *map(_stack, others))
        return tuple(jax.tree.map(lambda x, i=i: x[i], call) for i in range(count))

    placement = jax.tree.map(lambda x: x.sharding, state)
    everywhere: Any = replicated(run.loop.mesh)
    where: Any = tuple(Call(placement, everywhere, everywhere) for _ in range(count))
    return jax.jit(train_all, donate_argnums=0, out_shardings=where, compiler_options=options_of(run))


def _stack(trees: tuple[Any, ...]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
