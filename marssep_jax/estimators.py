"""Ways to the gradient of the expected reward, behind one signature (ours).

An estimator draws the masks of a group, has them heard, and says what each earned
(``credit``, which becomes an advantage) and what of the gradient it knows already
(``slope``). The update adds both: credit through the score of the density, slope
straight into the proposal. With sg the constant, R the reward, m a mask:

=================== ============================ ============= =====================
estimator           credit                       slope         bias
=================== ============================ ============= =====================
``score``           R(m)                         none          none (1)
``antithetic``      R(m), masks in twins u, 1-u  none          none (1, 2)
``control_variate`` R(m) - R(e) - g (m - e)      g de/dP       none (1)
``pathwise``        none                         dR/dm dm/dP   none
``hybrid``          (1 - w) of score             w of pathwise none (1)
=================== ============================ ============= =====================

e is the policy's mean mask and g the reward's derivative there, both constants.
(1) For bins drawn independently and for one variate per patch. Bins that share
noise have exact marginals but no product density, and the score of the product is
biased; ``pathwise`` is exact for them too. Clip, and advantages other than those
that leave a sample's own reward out, add a bias of their own. (2) The baseline has
to leave the twin out as well: ``leave_pair_out_advantage``.

Units: a surrogate is a mean over bins, an advantage may be any multiple of a
reward. An estimator with a slope sets ``weight`` so that both parts are the
derivative of the mean reward itself.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.types import Estimate, MaskPolicy, SampleFn

Masks = Float[Array, "b k g h w"]
Rewards = Float[Array, "b k g"]
Proposal = Float[Array, "b k h w"]
HearFn = Callable[[Masks], tuple[Rewards, Estimate]]


class Drawn(NamedTuple):
    """What an estimator found out about a proposal.

    ``weight`` multiplies the advantages that are made of ``credit``.
    """

    mask: Masks
    reward: Rewards
    estimate: Estimate
    credit: Rewards
    slope: Proposal | None = None
    weight: float = 1.0


@runtime_checkable
class Estimator(Protocol):
    """A way to the gradient of the expected reward."""

    def __call__(
        self, policy: MaskPolicy, key: PRNGKeyArray, proposal: Proposal, hear: HearFn
    ) -> Drawn:
        """Draw a group around a proposal that carries no gradient, and hear it."""
        ...


def sample_group(
    policy: MaskPolicy,
    key: PRNGKeyArray,
    proposal: Proposal,
    group_size: int,
    draw: SampleFn | None = None,
) -> Masks:
    """Draw G masks per proposal, one key each.

    Args:
      policy: distribution of masks.
      key: random key.
      proposal: P.
      group_size: masks G.
      draw: one of the policy's samplers; ``policy.sample`` by default.
    """
    keys = jax.random.split(key, group_size)
    draw = draw or policy.sample
    return jax.vmap(draw, in_axes=(0, None), out_axes=2)(keys, proposal)


def score_estimator(group_size: int, *, antithetic: bool = False) -> Estimator:
    """Build the score-function estimator, the paper's (section 4).

    Args:
      group_size: masks G of a target.
      antithetic: draw twins from u and 1 - u; needs an even group.

    Raises:
      ValueError: fewer than one mask, or an odd number of twins.
    """
    _check_size(group_size)
    if antithetic and group_size % 2:
        raise ValueError(f"group_size is {group_size}, expected an even number")

    def estimate(
        policy: MaskPolicy, key: PRNGKeyArray, proposal: Proposal, hear: HearFn
    ) -> Drawn:
        if antithetic:
            mirror = _need(policy.mirror, "mirror")
            halves = [
                sample_group(policy, key, proposal, group_size // 2, draw)
                for draw in (policy.sample, mirror)
            ]
            # Twins lie side by side: 2 i and 2 i + 1.
            mask = jnp.stack(halves, axis=3).reshape(
                *halves[0].shape[:2], group_size, *halves[0].shape[3:]
            )
        else:
            mask = sample_group(policy, key, proposal, group_size)
        mask = jax.lax.stop_gradient(mask)
        reward, heard = hear(mask)
        return Drawn(mask, reward, heard, credit=reward)

    return estimate


def control_variate_estimator(group_size: int) -> Estimator:
    """Build the score function with the reward's own linear part taken out.

    What is linear in the mask needs no sampling: its mean moves with the mean mask,
    whose derivative is known. Only the rest is left to chance. It costs one more
    mask per target, heard forwards and backwards.

    Args:
      group_size: masks G of a target.

    Raises:
      ValueError: fewer than one mask.
    """
    _check_size(group_size)

    def estimate(
        policy: MaskPolicy, key: PRNGKeyArray, proposal: Proposal, hear: HearFn
    ) -> Drawn:
        mask = jax.lax.stop_gradient(sample_group(policy, key, proposal, group_size))
        reward, heard = hear(mask)
        mean, moves = jax.vjp(policy.mean, proposal)
        level, pull = jax.vjp(lambda m: hear(m[:, :, None])[0][..., 0], mean)
        (slope,) = pull(jnp.ones_like(level))
        linear = jnp.einsum("bkghw,bkhw->bkg", mask - mean[:, :, None], slope)
        (known,) = moves(slope)
        credit = reward - level[:, :, None] - linear
        return Drawn(mask, reward, heard, credit, known, _num_bins(proposal))

    return estimate


def pathwise_estimator(group_size: int) -> Estimator:
    """Build the reparameterised gradient: through mask, listener and encoder.

    Args:
      group_size: masks G of a target.

    Raises:
      ValueError: fewer than one mask.
    """
    _check_size(group_size)

    def estimate(
        policy: MaskPolicy, key: PRNGKeyArray, proposal: Proposal, hear: HearFn
    ) -> Drawn:
        mask, reward, heard, slope = _follow(policy, key, proposal, hear, group_size)
        return Drawn(mask, reward, heard, reward, slope, 0.0)

    return estimate


def hybrid_estimator(group_size: int, path_share: float = 0.5) -> Estimator:
    """Build the weighted mean of pathwise and score function, on the same masks.

    Args:
      group_size: masks G of a target.
      path_share: w, the pathwise part.

    Raises:
      ValueError: fewer than one mask, or a share outside [0, 1].
    """
    _check_size(group_size)
    if not 0.0 <= path_share <= 1.0:
        raise ValueError(f"path_share is {path_share!r}, expected a number in [0, 1]")

    def estimate(
        policy: MaskPolicy, key: PRNGKeyArray, proposal: Proposal, hear: HearFn
    ) -> Drawn:
        mask, reward, heard, slope = _follow(policy, key, proposal, hear, group_size)
        weight = (1.0 - path_share) * _num_bins(proposal)
        return Drawn(mask, reward, heard, reward, path_share * slope, weight)

    return estimate


def _follow(
    policy: MaskPolicy,
    key: PRNGKeyArray,
    proposal: Proposal,
    hear: HearFn,
    group_size: int,
) -> tuple[Masks, Rewards, Estimate, Proposal]:
    """Draw a group and differentiate its mean reward by the proposal."""
    draw = _need(policy.path, "path")

    def total(p: Proposal) -> tuple[Array, tuple[Masks, Rewards, Estimate]]:
        mask = sample_group(policy, key, p, group_size, draw)
        reward, heard = hear(mask)
        return jnp.sum(jnp.mean(reward, axis=-1)), (mask, reward, heard)

    slope, found = jax.grad(total, has_aux=True)(proposal)
    return *jax.lax.stop_gradient(found), slope


def _num_bins(proposal: Proposal) -> float:
    return float(proposal.shape[-2] * proposal.shape[-1])


def _check_size(group_size: int) -> None:
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}, expected >= 1")


def _need(draw: SampleFn | None, name: str) -> SampleFn:
    if draw is None:
        raise ValueError(f"policy.{name} is None, expected a policy with sampler table")
    return draw
