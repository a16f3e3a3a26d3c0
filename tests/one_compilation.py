"""Compiles the network of a module's runs once."""

from flaxseg.train import loop
from flaxseg.train.compile import compile_run


def compile_once(patch):
    """Makes all runs use the compiled functions of the first, whose program must be theirs, too."""
    compiled = []

    def first_or_same(run, state):
        if not compiled:
            compiled.append(compile_run(run, state))
        return compiled[0]

    patch.setattr(loop, "compile_run", first_or_same)
