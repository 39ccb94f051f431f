"""What an update needs where every device runs it on rows of its own.

Under `jit` with shardings a function sees the whole batch and none of this is
needed. Under `pmap` it sees one device's rows: gradients have to be averaged by
hand, and every device has to draw the noise of its own rows.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.types import AXIS, MaskPolicy, Params, SampleFn, SeparatorFn


@jax.custom_vjp
def _shared(params: Params) -> Params:
    """Return parameters that all devices hold alike; gradients are averaged."""
    return params


def _keep(params: Params) -> tuple[Params, None]:
    return params, None


def _average(_: None, slope: Params) -> tuple[Params]:
    return (jax.lax.pmean(slope, AXIS),)


_shared.defvjp(_keep, _average)


def averaged_gradient(separator: SeparatorFn) -> SeparatorFn:
    """Return a separator whose parameters' gradient is the mean over devices.

    For losses that are means over rows, with as many rows on every device.

    Args:
      separator: forward pass.
    """

    def apply(
        params: Params,
        model_state: Params,
        log_mag: Float[Array, "b h w"],
        query: Float[Array, "b k d"],
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b k h w"], Params]:
        return separator(_shared(params), model_state, log_mag, query, train=train)

    return apply


def rows_of_one_draw(policy: MaskPolicy) -> MaskPolicy:
    """Return a policy whose devices draw the rows of one batch's masks.

    A mask depends on its own proposal and on where in the batch it stands: each
    device draws for a batch that repeats its rows, and keeps those that stand where
    its own do. The compiler fuses the cut into the draw, so what is thrown away is
    mostly never drawn.

    Args:
      policy: the family.
    """

    def cut(draw: SampleFn) -> SampleFn:
        def sample(
            key: PRNGKeyArray, proposal: Float[Array, "b k h w"]
        ) -> Float[Array, "b k h w"]:
            count, rows = jax.lax.axis_size(AXIS), proposal.shape[0]
            whole = jnp.tile(proposal, (count, *(1 for _ in proposal.shape[1:])))
            start = jax.lax.axis_index(AXIS) * rows
            return jax.lax.dynamic_slice_in_dim(draw(key, whole), start, rows, axis=0)

        return sample

    return policy._replace(
        sample=cut(policy.sample),
        path=None if policy.path is None else cut(policy.path),
        mirror=None if policy.mirror is None else cut(policy.mirror),
    )


def settle(name: str, value: Array) -> Array:
    """Return a metric of the whole batch from those of the devices' rows.

    Args:
      name: maxima end in ``_max`` or ``_start``; anything else is averaged.
      value: this device's.
    """
    largest = name.endswith(("_max", "_start"))
    return jax.lax.pmax(value, AXIS) if largest else jax.lax.pmean(value, AXIS)


def all_devices(
    combine: Callable[[Array, str], Array], value: Float[Array, ""]
) -> Float[Array, ""]:
    """Combine a number over devices under `pmap`; elsewhere it is the batch's already.

    What is decided by one device's rows has to be decided for all: their parameters
    would part otherwise.

    Args:
      combine: `jax.lax.pmin`, `jax.lax.pmean` or the like.
      value: this device's.
    """
    try:
        return combine(value, AXIS)
    except NameError:  # there is no such axis
        return value
