"""The factorised Beta of a mask (method section 1), in closed form.

pi(M | P) = prod over bins of Beta(M; alpha, beta), alpha = 1 + kappa P,
beta = 1 + kappa (1 - P). What that choice gives, used throughout:

- alpha + beta = 2 + kappa is constant: its lgamma and digamma are two numbers;
- alpha, beta >= 1: no logarithm of P occurs anywhere, so P = 0 and P = 1 need no
  guard and keep their exact value and gradient;
- the normaliser depends on P alone, so one serves all masks of a group.

All of it is float32, whatever the network's activations are.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float
from scipy.special import digamma as host_digamma

from marssep_jax.sampling import clamp_mask
from marssep_jax.special import digamma, log_gamma

Bins = Float[Array, "..."]
Number = float | Float[Array, ""]


def _concentrations(kappa: Number, proposal: Bins) -> tuple[Bins, Bins]:
    return 1.0 + kappa * proposal, 1.0 + kappa * (1.0 - proposal)


def _log_normaliser(kappa: Number, proposal: Bins) -> Bins:
    """Return ln B(alpha, beta)."""
    alpha, beta = _concentrations(kappa, proposal)
    total = 2.0 + kappa
    known = log_gamma(total) if isinstance(total, Array) else math.lgamma(total)
    return log_gamma(alpha) + log_gamma(beta) - known


def beta_log_prob(kappa: Number, proposal: Bins, mask: Bins) -> Bins:
    """Return ln pi(M | P) of every bin, in nats (section 1).

    kappa P ln M + kappa (1 - P) ln(1 - M) - ln B(alpha, beta).

    Args:
      kappa: concentration.
      proposal: P in [0, 1].
      mask: M. A value at an end of the support (an ideal binary mask, or a sample
        rounded to bfloat16) counts as the nearest one a sampler can give, where
        density and gradient are finite; samples are not changed by this.

    Returns:
      Log-density per bin, of the shape that the two broadcast to.
    """
    proposal = proposal.astype(jnp.float32)
    mask = clamp_mask(mask.astype(jnp.float32))
    # P ln M + (1 - P) ln(1 - M), written with P once: its gradient is one product.
    rest = jnp.log1p(-mask)
    score = rest + proposal * (jnp.log(mask) - rest)
    return kappa * score - _log_normaliser(kappa, proposal)


def beta_entropy(kappa: Number, proposal: Bins) -> Bins:
    """Return the differential entropy of every bin, in nats (section 1).

    ln B(alpha, beta) - kappa P psi(alpha) - kappa (1 - P) psi(beta)
    + kappa psi(2 + kappa).
    """
    proposal = proposal.astype(jnp.float32)
    alpha, beta = _concentrations(kappa, proposal)
    surprise = proposal * digamma(alpha) + (1.0 - proposal) * digamma(beta)
    total = 2.0 + kappa
    known = digamma(total) if isinstance(total, Array) else float(host_digamma(total))
    return _log_normaliser(kappa, proposal) + kappa * (known - surprise)


def beta_kl(kappa: Number, p: Bins, q: Bins) -> Bins:
    """Return KL(pi_p || pi_q) of every bin, in nats (section 1).

    ln B_q - ln B_p + kappa (P - Q) (psi(alpha_p) - psi(beta_p)). The term with
    psi(alpha + beta) is absent because both sums are 2 + kappa.
    """
    p, q = p.astype(jnp.float32), q.astype(jnp.float32)
    alpha, beta = _concentrations(kappa, p)
    lever = kappa * (p - q) * (digamma(alpha) - digamma(beta))
    return _log_normaliser(kappa, q) - _log_normaliser(kappa, p) + lever


def beta_mean(kappa: Number, proposal: Bins) -> Bins:
    """Return the mean mask (1 + kappa P) / (2 + kappa) (section 1)."""
    return (1.0 + kappa * proposal.astype(jnp.float32)) / (2.0 + kappa)
