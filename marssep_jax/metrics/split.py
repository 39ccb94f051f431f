"""What the ways of BSS-eval share: the energies that its ratios are made of."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

NUM_TOGETHER = 8
"""Most mixtures evaluated side by side."""


class Split(NamedTuple):
    """Energies of each estimate's parts, as shares of the estimate's own energy.

    P_s projects on the delays of its own target, P on those of all targets.
    """

    own: Float[Array, "*b s"]
    """|P_s e|^2"""
    not_own: Float[Array, "*b s"]
    """|e - P_s e|^2"""
    others: Float[Array, "*b s"]
    """|P e - P_s e|^2"""
    every: Float[Array, "*b s"]
    """|P e|^2"""
    not_every: Float[Array, "*b s"]
    """|e - P e|^2"""


def safe_ratio(part: Array, whole: Array) -> Array:
    """Divide; by nothing, as silence has it, that is 0."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def normalised(waveform: Float[Array, "s t"]) -> Float[Array, "s t"]:
    """Scale to unit energy, so that one relative ridge fits; silence stays silent."""
    norm = jnp.sqrt(jnp.sum(waveform**2, axis=-1, keepdims=True))
    return waveform / jnp.where(norm > 0, norm, 1)


def by_groups(function: Callable[..., Split], arrays: PyTree) -> Split:
    """Map over leading axes, a few at a time: vectorised, yet within the cache."""
    num = jax.tree.leaves(arrays)[0].shape[0]
    together = max(n for n in range(1, NUM_TOGETHER + 1) if num % n == 0)
    return jax.lax.map(function, arrays, batch_size=together)
