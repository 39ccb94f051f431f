"""What is measured of a batch of estimates, and who listens to them.

Everything is dispatched and nothing is waited for, so that several devices can be
kept at work; who reads the numbers waits.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from marssep_jax.metrics import bss_eval, sdr, si_sdr

JudgeFn = Callable[[Float[Array, "*b t"]], Float[Array, "*b c"]]
"""Waveforms -> class log-probabilities; -inf for classes that it cannot name, whose
targets it does not score."""


class Batch(NamedTuple):
    """Mixtures that are scored together: targets, classes, words that ask for them."""

    target: Float[Array, "b k t"]
    label: np.ndarray
    captions: Sequence[Sequence[str]] = ()


Scorer = Callable[[Float[Array, "b q k t"], Batch], Mapping[str, Array]]
"""Estimates and their batch -> scores [b, q, k] by name."""


def measure(
    estimate: Float[Array, "b q k t"],
    batch: Batch,
    scorers: Sequence[Scorer] = (),
    *,
    bss: bool = True,
) -> dict[str, Float[Array, "b q k"]]:
    """Score ``q`` sets of estimates of a batch's targets.

    Args:
      estimate: waveforms, by way of asking and target.
      batch: what they should be.
      scorers: further ears.
      bss: whether to compute SIR and SAR, which take most of the time.

    Returns:
      ``si_sdr_db``, ``si_sdri_db``, ``sdr_db``, ``sdri_db``, ``sir_db``, ``sar_db``
      (BSS-eval of images, whose SDR is the plain one) and what the scorers say.
    """
    found = _ratios(estimate, batch.target, bss)
    for scorer in scorers:
        found |= scorer(estimate, batch)
    return found


@partial(jax.jit, static_argnames="bss")
def _ratios(
    estimate: Float[Array, "b q k t"], target: Float[Array, "b k t"], bss: bool
) -> dict[str, Float[Array, "b q k"]]:
    wanted = jnp.broadcast_to(target[:, None], estimate.shape)
    whole = target.sum(axis=1, keepdims=True)
    mixture = jnp.broadcast_to(whole[:, None], estimate.shape)
    metrics = {"si_sdr_db": si_sdr(estimate, wanted), "sdr_db": sdr(estimate, wanted)}
    metrics["si_sdri_db"] = metrics["si_sdr_db"] - si_sdr(mixture, wanted)
    metrics["sdri_db"] = metrics["sdr_db"] - sdr(mixture, wanted)
    if bss:
        ratios = bss_eval(estimate, wanted, variant="images")
        metrics |= {"sir_db": ratios.sir, "sar_db": ratios.sar}
    return metrics


def class_scorer(name: str, judge_fn: JudgeFn) -> Scorer:
    """Return the scorer of a classifier.

    Args:
      name: of its score, the log-probability of the target's class;
        ``NAME_accuracy`` says whether that class is its first choice, and
        ``NAME_margin`` how far it is above the likeliest class of the mixture's other
        targets, NaN where they have no other class.
      judge_fn: waveforms -> class log-probabilities.
    """

    def score(estimate: Array, batch: Batch) -> dict[str, Array]:
        values = jnp.asarray(judge_fn(estimate))
        label = jnp.asarray(batch.label)[:, None]
        index = jnp.broadcast_to(label, values.shape[:-1])
        picked = jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
        unnamed = jnp.isneginf(picked)  # a class that it has no name for
        hit = (values.argmax(axis=-1) == index).astype(values.dtype)
        rival = _rival(values, label)
        margin = jnp.where(jnp.isneginf(rival), jnp.nan, picked - rival)
        return {
            name: jnp.where(unnamed, jnp.nan, picked),
            f"{name}_accuracy": jnp.where(unnamed | jnp.isnan(picked), jnp.nan, hit),
            f"{name}_margin": jnp.where(unnamed, jnp.nan, margin),
        }

    return score


def _rival(
    values: Float[Array, "b q k c"], label: Int[Array, "b 1 k"]
) -> Float[Array, "b q k"]:
    """Return the best of the other targets' classes, -inf where there is none."""
    index = jnp.broadcast_to(label[:, :, None], (*values.shape[:-1], label.shape[-1]))
    of_targets = jnp.take_along_axis(values, index, axis=-1)  # b q k, target j
    other = label[..., None] != label[:, :, None]
    return jnp.where(other, of_targets, -jnp.inf).max(axis=-1)


def require_finite(estimate: Float[Array, "..."]) -> None:
    """Check estimates before their scores are believed.

    Raises:
      ValueError: NaN or infinite samples.
    """
    if not bool(jnp.isfinite(estimate).all()):
        raise ValueError("estimates hold NaN or infinite samples, expected finite ones")
