"""Groups of keys that keep what is assigned to them, so that validation sees it."""

import sys
from typing import Any

from ml_collections import ConfigDict

from flaxseg.errors import ConfigError, shown


class Group(ConfigDict):
    """A ConfigDict without its conversion of True to 1.0, and of huge integers, where the present value is a float.

    Validation then rejects such a value together with everything else that is wrong. Other integers still become
    floats. Groups are not type-safe: any value can replace any other.
    """

    def __init__(self, initial_dictionary: Any = None, type_safe: bool = False, **options: Any) -> None:
        super().__init__(type_safe=type_safe, **options)
        for key, value in {} if initial_dictionary is None else initial_dictionary.items():
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        """Sets a key.

        Raises:
          ConfigError: the name of the key is not a string.
        """
        if not isinstance(key, str):
            raise ConfigError(f"{shown(key)} = {shown(value)}: the name of a key must be a string; write it in quotes")
        if isinstance(value, bool) or (isinstance(value, int) and abs(value) > sys.float_info.max):
            # Values are converted to the type of the present one, but nothing is converted to that of None.
            super().__setitem__(key, None)
        super().__setitem__(key, as_group(value))


def as_group(value: Any) -> Any:
    """Returns a dict or another ConfigDict as a Group, with all groups below it; other values unchanged."""
    return Group(value) if isinstance(value, dict | ConfigDict) and not isinstance(value, Group) else value
