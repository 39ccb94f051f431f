"""Data parallelism: replicated state, batches cut over a mesh of devices.

`jit` with shardings gives the same numbers on one device and on many, so there
is no second version of any update. Axes are Auto: with Explicit ones, merging
the sharded batch axis with the group axis is an error.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")
AXIS = "data"


def make_data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh with one axis over all devices, or over those given."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicate(tree: T, mesh: Mesh) -> T:
    """Put a tree of arrays on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def place_batch(batch: T, mesh: Mesh) -> T:
    """Cut this host's share of a batch over the devices, along the first axis.

    Raises:
      ValueError: a batch that does not divide by the number of devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    local = len(mesh.local_devices)

    def place(leaf: Any) -> jax.Array:
        if leaf.shape[0] % local:
            raise ValueError(
                f"batch_size is {leaf.shape[0]} on this host, expected a multiple of "
                f"its {local} devices"
            )
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(place, batch)


def where_data_are(
    fn: Callable[..., Any], *fixed: Any, devices: Sequence[jax.Device] | None = None
) -> Callable[..., Any]:
    """Bind arguments, so that a call runs on whichever device its data lie on.

    Every device then runs the whole program on whole batches of its own: unlike a
    batch that is cut, the numbers are the same, bit for bit, on one device and on
    many.

    Args:
      fn: ``(*fixed, first, *rest) -> anything``, jitted.
      fixed: trees of arrays; every device keeps a copy.
      devices: that calls may come from; None takes all of this process.

    Returns:
      ``(first, *rest) -> anything``; ``first`` lies on one of the devices.
    """
    devices = jax.local_devices() if devices is None else devices
    copies = {device: jax.device_put(fixed, device) for device in devices}

    def call(first: jax.Array, *rest: Any) -> Any:
        (device,) = first.devices()
        return fn(*copies[device], first, *rest)

    return call


def data_parallel(
    update_fn: Callable[[T, Any], tuple[T, Any]], mesh: Mesh
) -> Callable[[T, Any], tuple[T, Any]]:
    """Run an update on a mesh: batches cut, state and metrics replicated.

    Args:
      update_fn: ``(state, batch) -> (state, metrics)``, jitted or not.
      mesh: of `make_data_mesh`.

    Returns:
      The same for host batches. The state is donated; it must be replicated.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    # Fixed output shardings: left free, XLA might cut the state, and the second
    # step would compile anew.
    step = jax.jit(update_fn, out_shardings=(everywhere, everywhere), donate_argnums=0)

    def run(state: T, batch: Any) -> tuple[T, Any]:
        return step(state, place_batch(batch, mesh))

    return run
