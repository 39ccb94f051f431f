"""Data parallelism: batches cut over a mesh of devices, one program for all.

`jit` with shardings gives the same numbers on one device and on many, so there
is no second version of any update. Axes are Auto: with Explicit ones, merging
the sharded batch axis with the group axis is an error.

State may be on every device, or cut over the same axis as the batches: the
compiler then gathers a layer's parameters where they are used and scatters their
gradients, and a device keeps a share of parameters and optimiser.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from marssep_jax.replicas import settle
from marssep_jax.state import TrainState
from marssep_jax.types import AXIS

T = TypeVar("T")
STRATEGIES = ("jit", "pmap")
SMALL = 1 << 14
"""Scalars below which cutting an array is not worth the gathering."""


def make_data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh with one axis over all devices, or over those given."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def cut_or_copied(tree: Any, mesh: Mesh, smallest: int = SMALL) -> Any:
    """Return where the arrays of a tree go if each is cut over the devices.

    The longest axis that the devices divide is cut; an array that has none, or few
    scalars, is on every device.

    Args:
      tree: arrays, or their shapes.
      mesh: of `make_data_mesh`.
      smallest: fewer scalars than this are not cut.
    """

    def place(leaf: Any) -> NamedSharding:
        fitting = [
            axis for axis, size in enumerate(leaf.shape) if size % mesh.size == 0
        ]
        if mesh.size == 1 or leaf.size < smallest or not fitting:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        cut = (AXIS if axis == longest else None for axis in range(leaf.ndim))
        return NamedSharding(mesh, PartitionSpec(*cut))

    return jax.tree.map(place, tree)


def place_state(tree: T, mesh: Mesh, *, cut: bool = False, smallest: int = SMALL) -> T:
    """Put a tree of arrays on the devices, the same tree in every process.

    Args:
      tree: arrays of NumPy or of this process's devices.
      mesh: of `make_data_mesh`.
      cut: share large arrays out, as `cut_or_copied` says; else every device has all.
      smallest: of `cut_or_copied`.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    where = (
        cut_or_copied(tree, mesh, smallest)
        if cut
        else jax.tree.map(lambda _: everywhere, tree)
    )
    if jax.process_count() == 1:
        return jax.device_put(tree, where)
    return jax.tree.map(_put_share, tree, where)


def _put_share(leaf: Any, where: NamedSharding) -> jax.Array:
    """Put this process's part of an array on its devices."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put_share(jax.random.key_data(leaf), where)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, where, lambda part: host[part])


def replicate(tree: T, mesh: Mesh) -> T:
    """Put a tree of arrays on every device."""
    return place_state(tree, mesh)


def host_copy(tree: T) -> T:
    """Return a tree as NumPy arrays that hold all of it, in every process.

    All processes have to call it: what is cut over them is gathered.
    """

    def gather(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if not leaf.is_fully_replicated:
            mesh: Any = leaf.sharding  # a `NamedSharding` wherever processes share it
            everywhere = NamedSharding(mesh.mesh, PartitionSpec())
            leaf = jax.jit(lambda value: value, out_shardings=everywhere)(leaf)
        return leaf.addressable_data(0)

    return jax.device_get(jax.tree.map(gather, tree))


def place_batch(batch: T, mesh: Mesh) -> T:
    """Cut this host's share of a batch over the devices, along the first axis.

    Raises:
      ValueError: a batch that does not divide by the number of devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))

    def place(leaf: Any) -> jax.Array:
        _check_rows(leaf, mesh)
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(place, batch)


def _check_rows(leaf: Any, mesh: Mesh) -> None:
    local = len(mesh.local_devices)
    if leaf.shape[0] % local:
        raise ValueError(
            f"batch_size is {leaf.shape[0]} on this host, expected a multiple of "
            f"its {local} devices"
        )


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


Update = Callable[..., tuple[T, Any]]


def data_parallel(
    update_fn: Update, mesh: Mesh, *fixed: Any, strategy: str = "jit"
) -> Callable[[T, Any], tuple[T, Any]]:
    """Run an update on a mesh: batches cut, metrics replicated.

    Args:
      update_fn: ``(*fixed, state, batch) -> (state, metrics)``, jitted or not. For
        ``"pmap"`` it is built of `marssep_jax.replicas` and its state is a
        `TrainState`.
      mesh: of `make_data_mesh`.
      fixed: trees on the mesh that no step changes, such as a frozen encoder's
        parameters: as arguments they are no part of the program, are there once, and
        may be cut.
      strategy: ``"jit"``, one program over the whole batch; or ``"pmap"``, one a
        device over its rows, in one process and with all state on every device.

    Returns:
      ``(state, batch)`` of this host -> the same. The state is donated; it stays
      placed as it came.

    Raises:
      ValueError: another strategy, or one that does not run here.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}, expected 'jit' or 'pmap'")
    if strategy == "pmap":
        return _by_pmap(update_fn, mesh, fixed)
    everywhere = NamedSharding(mesh, PartitionSpec())
    donated = len(fixed)
    steps: list[Callable[..., Any]] = []

    def run(state: T, batch: Any) -> tuple[T, Any]:
        if not steps:
            # Fixed output shardings: left free, XLA might cut the state otherwise,
            # and the second step would compile anew.
            kept = jax.tree.map(lambda leaf: leaf.sharding, state)
            steps.append(
                jax.jit(
                    update_fn, out_shardings=(kept, everywhere), donate_argnums=donated
                )
            )
        with jax.set_mesh(mesh):  # `marssep_jax.fourier` asks for it
            return steps[0](*fixed, state, place_batch(batch, mesh))

    return run


def _by_pmap(
    update_fn: Update, mesh: Mesh, fixed: tuple[Any, ...]
) -> Callable[[T, Any], tuple[T, Any]]:
    if jax.process_count() > 1:
        raise ValueError("strategy is 'pmap', expected 'jit' for several processes")
    count = mesh.size

    def step(fixed: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        state, metrics = update_fn(*fixed, state, batch)
        settled = {name: settle(name, value) for name, value in metrics.items()}
        return _agreed(state), settled

    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, None, 0),
        out_axes=(None, None),
        devices=list(mesh.devices.flat),
    )

    def cut(leaf: Any) -> Any:
        _check_rows(leaf, mesh)
        return leaf.reshape(count, leaf.shape[0] // count, *leaf.shape[1:])

    def run(state: T, batch: Any) -> tuple[T, Any]:
        return mapped(fixed, state, jax.tree.map(cut, batch))

    return run


def _agreed(state: TrainState) -> TrainState:
    """Average what devices learnt of their own rows alone."""
    own = (state.model_state, state.advantage_state)
    model_state, advantage_state = jax.tree.map(
        lambda leaf: jax.lax.pmean(leaf, AXIS), own
    )
    return dataclasses.replace(
        state, model_state=model_state, advantage_state=advantage_state
    )
