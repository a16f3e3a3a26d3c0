"""Frozen modules: no gradient for their parameters, and the behavior of inference for their layers."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import linen as nn
from flax import traverse_util

from flaxseg.models.layers.normalization import BatchNorm
from flaxseg.models.protocol import ModelWrapper, SegmentationModel


def freeze(model: SegmentationModel, frozen: Callable[[str], bool]) -> SegmentationModel:
    """Returns a network whose frozen parameters get no gradient, with frozen BatchNorm and Dropout in inference mode.

    BatchNorm of a frozen module uses its running statistics and leaves them unchanged, and its Dropout drops nothing,
    also in training. Variables have the same structure as those of `model`.

    Args:
      model: the network.
      frozen: whether the parameter, or everything below the module, at a path such as `encoder/stem/conv/kernel` is
        frozen; see `flaxseg.freezing`. Give the optimizer the same function, so that it keeps no state for them.
    """
    return _Frozen(model, frozen)


@dataclasses.dataclass(frozen=True)
class _Frozen(ModelWrapper):
    frozen: Callable[[str], bool]

    switches: ClassVar = {
        BatchNorm: "use_running_average",
        nn.BatchNorm: "use_running_average",
        nn.Dropout: "deterministic",
    }
    """The field, and argument, that puts a layer into inference mode."""

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        flat = traverse_util.flatten_dict(variables["params"])
        fixed = {
            path: jax.lax.stop_gradient(value) if self.frozen("/".join(path)) else value for path, value in flat.items()
        }
        with nn.intercept_methods(self._call):
            return super().apply({**variables, "params": traverse_util.unflatten_dict(fixed)}, *args, **kwargs)

    def _call(self, call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        """Calls a layer, in inference mode if it is frozen."""
        module, path = context.module, "/".join(context.module.path)
        switch = next((name for kind, name in self.switches.items() if isinstance(module, kind)), None)
        # A pattern may cover the module, or only its parameters, such as `encoder/.*/scale`. Without a path, the
        # module is the detached copy made below.
        if not path or switch is None or context.method_name != "__call__":
            return call(*args, **kwargs)
        if not (self.frozen(path) or self.frozen(f"{path}/scale")):
            return call(*args, **kwargs)
        arguments = inspect.signature(type(module).__call__).bind(module, *args, **kwargs).arguments
        for name in ("self", switch):
            arguments.pop(name, None)
        # The fields of a bound module cannot be changed, but those of a detached copy can.
        return module.clone(parent=None, **{switch: True}).apply(module.variables, **arguments)
