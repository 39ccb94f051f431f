"""Objectives of the policy update, from per-bin log-ratios (method section 4).

Every objective is a mean over targets, masks of the group and, where it has one
value per bin, over bins. With A the advantage and N = H W bins its gradient at
ratio 1 is, as seen by ln pi of one bin:

========================== =======================================
``bin``                    A / (B K G N)
``mask``                   A / (B K G N): the log-ratio is a mean
``joint``                  A / (B K G), N times as much
``policy_gradient``        A / (B K G N)
========================== =======================================

So the weights of entropy and divergences, which are means over bins, hold for all
grid sizes and at all levels but ``joint``.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.types import Metrics, SurrogateFn

RATIO_LEVELS = ("bin", "mask", "joint")

# exp() of a log-ratio stays below 5e8: times any advantage, and squared in a
# gradient's norm, that is far inside float32. A ratio of e^20 has left every trust
# region long before; only the product over bins (``joint``) gets there.
LOG_RATIO_LIMIT = 20.0


def _reduce(
    log_ratio: Float[Array, "b k g h w"], level: str
) -> Float[Array, "b k g h2 w2"]:
    """Bring per-bin log-ratios to their level; one value per mask is [.., 1, 1]."""
    if level == "bin":
        return log_ratio
    total = jnp.sum if level == "joint" else jnp.mean
    return total(log_ratio, axis=(-2, -1), keepdims=True)


def _monitors(
    log_ratio: Float[Array, "b k g h w"],
    ratio: Float[Array, "b k g h2 w2"],
    clip_eps: float | None,
) -> Metrics:
    """Say how far the policy has moved from the one that sampled.

    ``policy/clip_fraction``: share of ratios outside [1 - eps, 1 + eps].
    ``policy/approx_kl``: mean of r - 1 - ln r per bin, which for samples of the
    old policy estimates KL(pi_old || pi) in nats a bin, at any level.
    """
    per_bin = jnp.clip(log_ratio, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    outside = jnp.zeros(())
    if clip_eps is not None:
        outside = jnp.mean((jnp.abs(ratio - 1.0) > clip_eps).astype(jnp.float32))
    metrics = {
        "policy/clip_fraction": outside,
        "policy/ratio_max": jnp.max(ratio),
        "policy/approx_kl": jnp.mean(jnp.expm1(per_bin) - per_bin),
    }
    return jax.lax.stop_gradient(metrics)


def clipped_surrogate(
    clip_eps: float = 0.2, ratio_level: str = "bin", dual_clip: float | None = None
) -> SurrogateFn:
    """Build J = E[min(r A, clip(r, 1 - eps, 1 + eps) A)] (section 4).

    - ``bin``: every bin is an action with a ratio of its own.
    - ``mask``: one ratio per mask, exp of the mean log-ratio over bins: the
      geometric mean of the bins' ratios.
    - ``joint``: one ratio per mask, the literal product over bins. Its log is
      10^4 to 10^5 terms wide, so that after one small step nearly every mask is
      clipped, or scored by ``LOG_RATIO_LIMIT``. Kept as an ablation.

    Args:
      clip_eps: half width of the trust region of the ratio; 0.2 in the paper.
      ratio_level: what one ratio is about, one of ``RATIO_LEVELS``.
      dual_clip: c > 1 bounds what a bad mask can cost to c A (dual-clip PPO, Ye et
        al., 2020): min(r A, ..) is unbounded where A < 0 and r is large. None is
        the paper's.

    Returns:
      ``surrogate(log_ratio [b k g h w], advantage [b k g]) -> (J, metrics)``,
      J to be maximised. The module's docstring gives its scale.

    Raises:
      ValueError: an argument out of range.
    """
    if not 0.0 < clip_eps < 1.0:
        raise ValueError(f"clip_eps is {clip_eps!r}, expected a number in (0, 1)")
    if ratio_level not in RATIO_LEVELS:
        expected = ", ".join(RATIO_LEVELS)
        raise ValueError(f"ratio_level is {ratio_level!r}, expected one of {expected}")
    if dual_clip is not None and not dual_clip > 1.0:
        raise ValueError(f"dual_clip is {dual_clip!r}, expected a number > 1")

    def surrogate(
        log_ratio: Float[Array, "b k g h w"], advantage: Float[Array, "b k g"]
    ) -> tuple[Float[Array, ""], Metrics]:
        log_level = _reduce(log_ratio, ratio_level)
        # A choice rather than a clip, and none below, where exp() is harmless: on a
        # CPU the gradients of clip and minimum took most of the loss's time.
        below = log_level < LOG_RATIO_LIMIT
        ratio = jnp.exp(jnp.where(below, log_level, LOG_RATIO_LIMIT))
        weight = advantage[..., None, None]
        near = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
        # Where the minimum is the clipped term it has no slope; elsewhere both are one.
        free, held = ratio * weight, jax.lax.stop_gradient(near * weight)
        gain = jnp.where(free <= held, free, held)
        if dual_clip is not None:
            floor = jax.lax.stop_gradient(dual_clip * weight)
            gain = jnp.where((weight < 0) & (gain < floor), floor, gain)
        objective = jnp.mean(gain)
        return objective, _monitors(log_ratio, ratio, clip_eps)

    return surrogate


def policy_gradient() -> SurrogateFn:
    """Build J = E[A ln pi], the score-function estimator (REINFORCE).

    Its value is that of E[A ln(pi / pi_old)], which has the same gradient and is
    0 at the start. There is no ratio in it: from a second step on the same masks
    on, it is biased, and nothing holds it back.

    Returns:
      A surrogate as ``clipped_surrogate`` returns, its clip fraction always 0.
    """

    def surrogate(
        log_ratio: Float[Array, "b k g h w"], advantage: Float[Array, "b k g"]
    ) -> tuple[Float[Array, ""], Metrics]:
        objective = jnp.mean(log_ratio * advantage[..., None, None])
        ratio = jnp.exp(jnp.clip(log_ratio, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
        return objective, _monitors(log_ratio, ratio, None)

    return surrogate
