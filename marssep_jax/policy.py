"""Policies of masks: how they are drawn, and how likely they are.

Their densities are those of `marssep_jax.beta`, their samplers those of
`marssep_jax.sampling`.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.beta import (
    Bins,
    Number,
    beta_entropy,
    beta_kl,
    beta_log_prob,
    beta_mean,
)
from marssep_jax.config import MASKS, PolicyConfig
from marssep_jax.quantiles import (
    Concentration,
    Kappa,
    check_kappa,
    number_of,
    quantile_table,
)
from marssep_jax.sampling import (
    check_patch,
    draw_by_rejection,
    draw_by_table,
    draw_with_path,
    repeat_patches,
)
from marssep_jax.types import MaskPolicy, SampleFn


def _identity(proposal: Bins) -> Bins:
    """Return the mode, which is P itself (section 1)."""
    return proposal.astype(jnp.float32)


def _checked(kappa: Kappa) -> Number:
    number = number_of(kappa)
    if not isinstance(number, Array):  # others were checked when they were made
        check_kappa(number)
    return number


def _make_samplers(
    kappa: Kappa, noise_patch: tuple[int, int], sampler: str
) -> dict[str, SampleFn]:
    check_patch("noise_patch", noise_patch)
    if sampler == "table":
        if not isinstance(kappa, Concentration):
            quantile_table(float(kappa))  # pays for the table here, not inside a jit
        draw = partial(draw_by_table, kappa=kappa, noise_patch=noise_patch)
        return {
            "sample": draw,
            "path": partial(draw_with_path, kappa=kappa, noise_patch=noise_patch),
            "mirror": partial(draw, mirrored=True),
        }
    if sampler != "jax":
        raise ValueError(f"sampler is {sampler!r}, expected 'table' or 'jax'")
    if noise_patch != (1, 1):
        raise ValueError(
            f"noise_patch is {noise_patch!r}, expected (1, 1) with sampler 'jax'"
        )
    return {"sample": partial(draw_by_rejection, kappa=kappa)}


def beta_policy(
    kappa: Kappa = 9.0,
    noise_patch: tuple[int, int] = (1, 1),
    sampler: str = "table",
) -> MaskPolicy:
    """Build the policy whose action is one Beta variate per bin (section 1).

    ``noise_patch`` other than (1, 1) makes the bins of a patch share a uniform.
    Every bin keeps its Beta exactly, so ratio, entropy and KL per bin mean what
    they meant; but the bins of a patch are no longer independent, the joint
    density is not the product, and the sum of per-bin scores is a *biased*
    estimator of the gradient. It pushes each bin by what its whole patch earned:
    for n bins of equal P and a reward that adds up over bins it is the patch's
    mean gradient, n times too large. What bins of one patch should do against
    each other it cannot see. In exchange it is far less noisy.
    ``patch_beta_policy`` is coarse too, and exact.

    Args:
      kappa: concentration, > 0. The paper's best is 9. One of `make_concentration`
        may be an argument of a compiled function, and change from call to call.
      noise_patch: (frequency rows, time columns) that share a uniform; (1, 1) is
        the paper's policy.
      sampler: ``"table"``, or ``"jax"`` for ``jax.random.beta``.

    Returns:
      The policy; all its functions are per bin.

    Raises:
      ValueError: an argument out of range, or shared noise with ``"jax"``.
    """
    number = _checked(kappa)
    return MaskPolicy(
        log_prob=partial(beta_log_prob, number),
        entropy=partial(beta_entropy, number),
        kl=partial(beta_kl, number),
        mode=_identity,
        mean=partial(beta_mean, number),
        **_make_samplers(kappa, noise_patch, sampler),
    )


def _patch_counts(patch: tuple[int, int], height: int, width: int) -> np.ndarray:
    """Count the bins of every patch; those at the far edges may have fewer."""
    rows, columns = (
        np.minimum(step, size - np.arange(0, size, step))
        for step, size in zip(patch, (height, width), strict=True)
    )
    return (rows[:, None] * columns).astype(np.float32)


def average_patches(
    proposal: Float[Array, "*s h w"], patch: tuple[int, int]
) -> Float[Array, "*s i j"]:
    """Average every patch of a grid whose size need not be a multiple of it."""
    *lead, height, width = proposal.shape
    counts = _patch_counts(patch, height, width)
    num_rows, num_columns = counts.shape
    missing = (num_rows * patch[0] - height, num_columns * patch[1] - width)
    padding = [(0, 0)] * len(lead) + [(0, missing[0]), (0, missing[1])]
    blocks = jnp.pad(proposal.astype(jnp.float32), padding).reshape(
        *lead, num_rows, patch[0], num_columns, patch[1]
    )
    counts = counts.reshape((1,) * len(lead) + counts.shape)
    return blocks.sum(axis=(-3, -1)) / counts


def _spread(values: Bins, patch: tuple[int, int], like: Bins) -> Bins:
    return repeat_patches(values, patch, *like.shape[-2:])


def _share(values: Bins, patch: tuple[int, int], like: Bins) -> Bins:
    """Divide a patch's value evenly among its bins."""
    counts = _patch_counts(patch, *like.shape[-2:])
    counts = counts.reshape((1,) * (values.ndim - 2) + counts.shape)
    return _spread(values / counts, patch, like)


def patch_beta_policy(
    kappa: Kappa = 9.0, patch: tuple[int, int] = (8, 8)
) -> MaskPolicy:
    """Build the policy whose action is one Beta variate per patch (ours).

    The proposal of a patch is the mean over its bins, and the mask is constant on
    it. There are as many densities as variates, so the density is exact and the
    score-function gradient unbiased, unlike that of shared noise. The price is
    the mask: mode and mean are as coarse as the patch.

    ``log_prob``, ``entropy`` and ``kl`` have one value per bin, a patch's own
    divided evenly among its bins: their *sum* over bins is the exact quantity.
    Hence the level of a ratio matters. ``joint`` is exact; ``mask`` is its root
    of order H W; at ``bin`` every bin holds the n-th root of its patch's ratio (n
    bins a patch), so a clip range of eps lets the patch itself move about n eps.

    Args:
      kappa: concentration of a patch's Beta, > 0, of either kind.
      patch: (frequency rows, time columns); patches at the far edges are smaller
        where the grid is no multiple of it.

    Returns:
      The policy. ``log_prob`` reads one value per patch, its first; ask it only
      about masks that this policy drew.

    Raises:
      ValueError: an argument out of range.
    """
    number = _checked(kappa)
    check_patch("patch", patch)

    def coarse(draw: SampleFn) -> SampleFn:
        def sample(key: PRNGKeyArray, proposal: Bins) -> Bins:
            action = draw(key, average_patches(proposal, patch))
            return _spread(action, patch, proposal)

        return sample

    def log_prob(proposal: Bins, mask: Bins) -> Bins:
        action = mask[..., :: patch[0], :: patch[1]]
        value = beta_log_prob(number, average_patches(proposal, patch), action)
        return _share(value, patch, mask)

    def entropy(proposal: Bins) -> Bins:
        value = beta_entropy(number, average_patches(proposal, patch))
        return _share(value, patch, proposal)

    def kl(p: Bins, q: Bins) -> Bins:
        averages = (average_patches(each, patch) for each in (p, q))
        return _share(beta_kl(number, *averages), patch, p)

    def mode(proposal: Bins) -> Bins:
        return _spread(average_patches(proposal, patch), patch, proposal)

    def mean(proposal: Bins) -> Bins:
        average = beta_mean(number, average_patches(proposal, patch))
        return _spread(average, patch, proposal)

    draws = _make_samplers(kappa, (1, 1), "table")
    samplers = {name: coarse(draw) for name, draw in draws.items()}
    return MaskPolicy(
        log_prob=log_prob, entropy=entropy, kl=kl, mode=mode, mean=mean, **samplers
    )


def make_mask_policy(config: PolicyConfig, kappa: Kappa | None = None) -> MaskPolicy:
    """Build the policy that a config names, with its kappa or another."""
    kappa = config.kappa if kappa is None else kappa
    if config.family == "patch_beta":
        return patch_beta_policy(kappa, config.action_patch)
    return beta_policy(kappa, config.noise_patch, config.sampler)


def mask_sampler(name: str, config: PolicyConfig) -> SampleFn | None:
    """Build ``(key, proposal) -> mask`` for separation after training.

    Args:
      name: "mode", "mean" or "sample".
      config: the policy's.

    Returns:
      The function; None for the mode, which is P itself.

    Raises:
      ValueError: another name.
    """
    if name not in MASKS:
        raise ValueError(f"mask is {name!r}, expected one of {', '.join(MASKS)}")
    if name == "mode":
        return None
    policy = make_mask_policy(config)
    if name == "sample":
        return policy.sample
    return lambda key, proposal: policy.mean(proposal)
