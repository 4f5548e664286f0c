"""The public names by which JAX submissions lay out their arrays."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from algoperf.backends import jax as backend


def get_replicate_sharding(mesh: Mesh | None = None) -> NamedSharding:
    """A copy on every device."""
    return backend.replicated() if mesh is None else NamedSharding(mesh, PartitionSpec())


def get_batch_dim_sharding(mesh: Mesh | None = None) -> NamedSharding:
    """The first axis divided over the devices (mesh axis "batch")."""
    return backend.by_batch() if mesh is None else NamedSharding(mesh, PartitionSpec("batch"))


get_batch_sharding = get_batch_dim_sharding


def replicate(tree: Any) -> Any:
    """Copies every array of a tree to all devices."""
    return jax.device_put(tree, backend.replicated())


def shard_along_batch_dim(tree: Any) -> Any:
    """Divides the first axis of every array of a tree over the devices."""
    return jax.device_put(tree, backend.by_batch())


def display_shard_info(array: jax.Array) -> None:
    """Draws how an array is laid out."""
    jax.debug.visualize_array_sharding(array)
