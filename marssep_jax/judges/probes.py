"""Tie what a network hears to classes: linear probes, fitted on training clips.

Every probe is an affine map of the embedding (minus the training mean, scaled to
unit length or not) and a softmax. The softmax's temperature is the one under which
held-out training clips are most probable: each class's clips are dealt to
``NUM_FOLDS`` hands, each hand is judged by a probe fitted on the others, and the
probe in use is then fitted on all. Without it, scores would be those of clips that
the probe knows by heart.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize_scalar

NUM_FOLDS = 4
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates for the ridge, in units of a standardised feature's variance."""
LOG_TEMPERATURE_BOUNDS = (-8.0, 4.0)
TINY = 1e-9


class Probe(NamedTuple):
    """From an embedding to class logits; -inf for a class it was never shown.

    ``mean`` [D], ``weight`` [D, C], ``bias`` [C]; ``unit`` (a boolean scalar) says
    whether the embedding minus the mean is scaled to unit length.
    """

    mean: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    unit: np.ndarray


FitFn = Callable[[np.ndarray, np.ndarray, int], Probe]


def class_log_prob(
    probe: Probe, embedding: Float[Array, "*b d"]
) -> Float[Array, "*b c"]:
    """Return class log-probabilities, -inf where the probe has no class."""
    flat = embedding.reshape(-1, embedding.shape[-1]) - jnp.asarray(probe.mean)[None]
    norm = jnp.linalg.norm(flat, axis=-1, keepdims=True)
    flat = jnp.where(jnp.asarray(probe.unit), flat / jnp.maximum(norm, TINY), flat)
    weight, bias = jnp.asarray(probe.weight), jnp.asarray(probe.bias)
    logits = jnp.dot(flat, weight, precision="highest") + bias[None]
    return jax.nn.log_softmax(logits).reshape(*embedding.shape[:-1], -1)


def fit_centroids(
    embedding: Float[np.ndarray, "n d"], label: Int[np.ndarray, " n"], num_classes: int
) -> Probe:
    """Return logits that are cosines to each class's mean, all minus the whole mean.

    Raw cosines of one network's embeddings lie between 0.9 and 1: what all clips
    share must go first. Classes weigh the same in the whole mean.
    """
    means, known = _class_means(embedding, label, num_classes)
    mean = means[known].mean(axis=0)
    centred = _unit(means - mean)
    bias = np.where(known, 0.0, -np.inf)
    return Probe(mean, centred.T * known, bias, np.array(True))


def fit_ridge(ridge: float) -> FitFn:
    """Return the fit of a linear least-squares classifier on standardised features."""

    def fit(embedding: np.ndarray, label: np.ndarray, num_classes: int) -> Probe:
        mean, scale = embedding.mean(axis=0), _deviation(embedding)
        feature = (embedding - mean) / scale
        hot = np.eye(num_classes)[label]
        share = hot.mean(axis=0)
        gram = feature.T @ feature / len(feature)
        wanted = feature.T @ (hot - share) / len(feature)
        weight = np.linalg.solve(gram + ridge * np.eye(len(gram)), wanted)
        bias = np.where(share > 0, share, -np.inf)
        return Probe(mean, weight / scale[:, None], bias, np.array(False))

    return fit


def fit_words(
    kernel: Float[np.ndarray, "d g"], word_of_class: Sequence[int | None]
) -> FitFn:
    """Return the fit of a network's own words for classes.

    Which word a class has is not learnt. Training clips only say how a word's logit
    is distributed, whoever sounds: each is standardised by that.

    Args:
      kernel: the weights of the network's words.
      word_of_class: the column of each class; None has no word.
    """
    named = np.array([word is not None for word in word_of_class])
    columns = kernel[:, [word or 0 for word in word_of_class]]

    def fit(embedding: np.ndarray, label: np.ndarray, num_classes: int) -> Probe:
        mean = embedding.mean(axis=0)
        spread = _deviation((embedding - mean) @ columns)
        weight = columns / spread * named
        return Probe(mean, weight, np.where(named, 0.0, -np.inf), np.array(False))

    return fit


def with_temperature(
    fit: FitFn, embedding: np.ndarray, label: np.ndarray, num_classes: int
) -> tuple[Probe, float]:
    """Fit a probe and the temperature of its softmax.

    Returns:
      The probe, and the mean log-probability of held-out training clips under it.
    """
    embedding = np.asarray(embedding, np.float64)
    hand = _deal(label, num_classes)
    logits = np.full((len(label), num_classes), -np.inf)
    for fold in range(NUM_FOLDS):
        out = hand == fold
        held = fit(embedding[~out], label[~out], num_classes)
        logits[out] = _logits(held, embedding[out])
    # A clip of a class without a logit tells nothing of the temperature.
    scored = np.isfinite(logits[np.arange(len(label)), label])
    logits, right = logits[scored], label[scored]

    def loss(log_temperature: float) -> float:
        return -float(_picked(logits / np.exp(log_temperature), right).mean())

    best = minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded")
    probe = fit(embedding, label, num_classes)
    factor = np.exp(-best.x)
    scaled = probe._replace(weight=probe.weight * factor, bias=probe.bias * factor)
    return _as_float32(scaled), -float(best.fun)


def best_ridge(
    embedding: np.ndarray, label: np.ndarray, num_classes: int
) -> tuple[Probe, float]:
    """Fit with each of `RIDGES`; take what makes held-out clips most probable."""
    found = [
        with_temperature(fit_ridge(ridge), embedding, label, num_classes)
        for ridge in RIDGES
    ]
    return max(found, key=lambda pair: pair[1])


def _logits(probe: Probe, embedding: np.ndarray) -> np.ndarray:
    """Return logits on the host, in float64."""
    value = embedding - probe.mean
    return (_unit(value) if probe.unit else value) @ probe.weight + probe.bias


def _picked(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    whole = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return logits[np.arange(len(label)), label] - whole


def _deal(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Deal each class's clips to the hands in turn."""
    hand = np.zeros(len(label), np.int64)
    for number in range(num_classes):
        rows = np.flatnonzero(label == number)
        hand[rows] = np.arange(len(rows)) % NUM_FOLDS
    return hand


def _class_means(
    embedding: np.ndarray, label: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    hot = np.eye(num_classes)[label]
    count = hot.sum(axis=0)
    return (hot.T @ embedding) / np.maximum(count, 1)[:, None], count > 0


def _unit(value: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(value, axis=-1, keepdims=True)
    return value / np.maximum(norm, TINY)


def _deviation(value: np.ndarray) -> np.ndarray:
    return np.maximum(value.std(axis=0), TINY)


def _as_float32(probe: Probe) -> Probe:
    mean, weight, bias = (
        np.asarray(part, np.float32) for part in (probe.mean, probe.weight, probe.bias)
    )
    return Probe(mean, weight, bias, probe.unit)
