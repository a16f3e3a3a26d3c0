"""The key-value store of `jax.distributed`, through which the processes of a run exchange short messages.

It works while devices compute or hang, because it needs no collective operation.
"""

from typing import Any, Self

import jax
from jax._src import distributed  # There is no public access to the store.


class StoreError(Exception):
    """The store cannot be reached, usually because the first process, which holds it, has ended."""


class Store:
    """The key-value store of the processes of a run; what one process sets, all can read.

    Args:
      client: the client of `jax.distributed`.
      scope: the prefix of every key, which distinguishes the runs that a program trains one after another.

    Attributes:
      index: the number of this process.
      count: the number of processes.
      address: HOST:PORT of the first process; "" if it is not known.
    """

    def __init__(self, client: Any, scope: str) -> None:
        self.index = jax.process_index()
        self.count = jax.process_count()
        self.address = distributed.global_state.coordinator_address or ""
        self._client = client
        self._scope = f"flaxseg/{scope}/"

    @classmethod
    def open(cls, scope: str) -> Self | None:
        """Returns the store; None if there is only one process."""
        client = distributed.global_state.client
        return None if jax.process_count() == 1 or client is None else cls(client, scope)

    def set(self, key: str, value: str) -> None:
        """Sets a key, or replaces its value.

        Raises:
          StoreError: the store cannot be reached.
        """
        try:
            self._client.key_value_set(self._scope + key, value, allow_overwrite=True)
        except jax.errors.JaxRuntimeError as error:
            raise StoreError(_first_line(error)) from error

    def set_once(self, key: str, value: str) -> bool:
        """Sets a key unless it has a value; returns whether it was set.

        Raises:
          StoreError: the store cannot be reached.
        """
        try:
            self._client.key_value_set(self._scope + key, value)
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" in str(error):
                return False
            raise StoreError(_first_line(error)) from error
        return True

    def wait(self, key: str, *, seconds: float) -> str | None:
        """Returns the value of a key as soon as it has one; None if it still has none after a while.

        Raises:
          StoreError: the store cannot be reached.
        """
        try:
            return str(self._client.blocking_key_value_get(self._scope + key, int(1000 * seconds)))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise StoreError(_first_line(error)) from error

    def delete(self, key: str) -> None:
        """Deletes a key, if it exists.

        Raises:
          StoreError: the store cannot be reached.
        """
        try:
            self._client.key_value_delete(self._scope + key)
        except jax.errors.JaxRuntimeError as error:
            raise StoreError(_first_line(error)) from error

    def all(self, prefix: str) -> dict[str, str]:
        """Returns the values of all keys that begin with `prefix/`, by the rest of their names.

        Raises:
          StoreError: the store cannot be reached.
        """
        path = f"{self._scope}{prefix}/"
        try:
            return {key.removeprefix(path): value for key, value in self._client.key_value_dir_get(path)}
        except jax.errors.JaxRuntimeError as error:
            raise StoreError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
