"""Fourier transforms of batches that are cut over devices.

XLA's partitioner knows no way to transform a batch in parts: it gathers all of it on
every device and transforms it everywhere. Where a step runs on a mesh, each device is
therefore told to transform its own rows.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Complex, Float

from marssep_jax.types import AXIS


def rfft(
    value: Float[Array, "*b n"], length: int | None = None
) -> Complex[Array, "*b f"]:
    """Transform the last axis, as `jnp.fft.rfft` does."""
    return _by_rows(partial(jnp.fft.rfft, n=length), value)


def irfft(value: Complex[Array, "*b f"], length: int) -> Float[Array, "*b n"]:
    """Transform the last axis back, as `jnp.fft.irfft` does."""
    return _by_rows(partial(jnp.fft.irfft, n=length), value)


def _by_rows(transform: Callable[[Array], Array], value: Array) -> Array:
    """Run a transform where the rows of the first axis are, if they are cut."""
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.auto_axes or value.ndim < 2:
        return transform(value)
    if value.shape[0] % mesh.shape[AXIS]:
        return transform(value)
    rows = PartitionSpec(AXIS)
    return jax.shard_map(transform, in_specs=rows, out_specs=rows)(value)
