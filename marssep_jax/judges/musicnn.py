"""The music tagger musicnn (Pons and Serra, ISMIR 2019 late-breaking), for JAX.

Trained on MagnaTagATune: 50 tags, many of them instruments. Log-mel patches of three
seconds at 16 kHz go through filters as high as a timbre and as long as a rhythm, then
through three convolutions over time; maximum and mean over time lead to a layer of
200 numbers, the embedding, and from there to the tags.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.conversion.tensor_bundle import open_bundle
from marssep_jax.judges.hearing import (
    compressed,
    convolve,
    even_blocks,
    heard_in_groups,
    levelled,
    mel_power,
)
from marssep_jax.preprocessing.filterbanks import hz_filters
from marssep_jax.preprocessing.framing import as_float32
from marssep_jax.preprocessing.resampling import resample_sinc
from marssep_jax.types import Params
from marssep_jax.weights.packages import PackagedWeights

RATE_HZ = 16_000
NUM_MELS = 96
N_FFT, HOP_SAMPLES = 512, 256
PATCH_FRAMES = 187
BATCH_NORM_EPS = 1e-3
INDEX, DATA = "MTT_musicnn/.index", "MTT_musicnn/.data-00000-of-00001"

WEIGHTS = PackagedWeights(
    name="musicnn",
    package="musicnn",
    requirement="musicnn==0.1.0",
    licence="ISC",
    notice="musicnn, (c) 2019 J. Pons, Music Technology Group, UPF",
    files={
        INDEX: "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
        DATA: "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
    },
)

TAGS = (
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic"),
    *("rock", "fast", "piano", "ambient", "beat", "violin", "vocal", "synth"),
    *("female", "indian", "opera", "male", "singing", "vocals", "no vocals"),
    *("harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal"),
    *("pop", "soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age"),
    *("dance", "male voice", "female vocal", "beats", "harp", "cello", "no voice"),
    *("weird", "country", "metal", "female voice", "choral"),
)
"""In the order of the network's outputs."""

# Convolutions of the published file, and the batch norms that follow them.
_LAYERS = {
    "timbre_0": ("conv2d", 1),
    "timbre_1": ("conv2d_1", 2),
    "rhythm_0": ("conv2d_2", 3),
    "rhythm_1": ("conv2d_3", 4),
    "rhythm_2": ("conv2d_4", 5),
    "time_0": ("conv2d_5", 6),
    "time_1": ("conv2d_6", 7),
    "time_2": ("conv2d_7", 8),
    "embedding": ("dense", 10),
}


def log_mel(waveform: Float[Array, "b t"]) -> Float[Array, "b n 96"]:
    """Return the network's input, n = 1 + t // 256, from samples at 16 kHz."""
    filters = hz_filters(NUM_MELS, RATE_HZ, N_FFT, 0.0, RATE_HZ / 2, "slaney")
    power = mel_power(waveform, filters, N_FFT, HOP_SAMPLES)
    # It was trained on spectra that had been stored in 16 bits.
    return compressed(power.astype(jnp.float16).astype(jnp.float32))


def forward(params: Params, patches: Float[Array, "b s m"]) -> Float[Array, "b d"]:
    """Embed patches of frames.

    Args:
      params: of `read_params`; the widths are those of the arrays.
      patches: log-mel patches, time first.
    """
    value = _normed(params["input"], patches[..., None])
    ends = ((0, 0), (3, 3), (0, 0), (0, 0))  # filters of seven frames
    padded = jnp.pad(value, ends)
    front = [
        _conv(params[name], source, padding).max(axis=2)
        for name, source, padding in (
            ("timbre_0", padded, "VALID"),
            ("timbre_1", padded, "VALID"),
            ("rhythm_0", value, "SAME"),
            ("rhythm_1", value, "SAME"),
            ("rhythm_2", value, "SAME"),
        )
    ]
    features = [jnp.concatenate(front, axis=-1)]
    for name in ("time_0", "time_1", "time_2"):
        # A filter spans all features: they are its second axis, of no channels.
        source = jnp.pad(features[-1][..., None], ends)
        found = _conv(params[name], source, "VALID")[:, :, 0]
        features.append(found if name == "time_0" else found + features[-1])
    whole = jnp.concatenate(features, axis=-1)
    # Maximum and mean alternate, feature by feature.
    pooled = jnp.stack([whole.max(axis=1), whole.mean(axis=1)], axis=-1)
    pooled = _normed(params["pooled"], pooled.reshape(len(pooled), -1))
    layer = params["embedding"]
    dense = pooled @ layer["kernel"] + layer["bias"][None]
    return _normed(layer, jax.nn.relu(dense))


def tag_logits(params: Params, embedding: Float[Array, "*b d"]) -> Float[Array, "*b g"]:
    """Return the logits of the `TAGS`."""
    layer = params["tags"]
    bias = layer["bias"].reshape((1,) * (embedding.ndim - 1) + (-1,))
    return embedding @ layer["kernel"] + bias


def embed(
    params: Params, waveform: Float[Array, "*b t"], rate_hz: int
) -> Float[Array, "*b d"]:
    """Return the mean embedding of a clip's patches; compiles.

    Args:
      params: of `read_params`.
      waveform: samples of any level.
      rate_hz: their rate; they are resampled where they are (see `aisfx.embed`).

    Raises:
      ValueError: not floating, or no samples.
    """

    def hear(clips: Array) -> Array:
        sound = levelled(resample_sinc(clips, rate_hz, RATE_HZ))
        patches = even_blocks(log_mel(sound), PATCH_FRAMES)
        found = forward(params, patches.reshape(-1, *patches.shape[2:]))
        return found.reshape(*patches.shape[:2], -1).mean(axis=1)

    # Judges should agree on every machine: no short floats.
    with jax.default_matmul_precision("highest"):
        return heard_in_groups(hear, as_float32(waveform))


def _conv(layer: Params, value: Array, padding: str) -> Array:
    bias = layer["bias"].reshape(1, 1, 1, -1)
    return _normed(layer, jax.nn.relu(convolve(value, layer["kernel"], padding) + bias))


def _normed(layer: Params, value: Array) -> Array:
    ones = (1,) * (value.ndim - 1)
    return value * layer["scale"].reshape(*ones, -1) + layer["shift"].reshape(*ones, -1)


def words_of_classes(class_names: Sequence[str]) -> tuple[int | None, ...]:
    """Return for each class the tag that means it, None where there is none.

    A tag means a class if it is the name, or a word of it or that word's plural. Where
    two tags would do, or two classes share one, none is taken: it could not tell them
    apart.

    >>> [word and TAGS[word] for word in words_of_classes(["harp", "drum kit", "tuba"])]
    ['harp', 'drums', None]
    """
    found = [_tag_of(name.lower()) for name in class_names]
    return tuple(tag if found.count(tag) == 1 else None for tag in found)


def _tag_of(name: str) -> int | None:
    if name in TAGS:
        return TAGS.index(name)
    words = {form for word in name.split() for form in (word, f"{word}s")}
    tags = [number for number, tag in enumerate(TAGS) if tag in words]
    return tags[0] if len(tags) == 1 else None


def read_params(paths: Mapping[str, Any]) -> Params:
    """Read the network out of its published files.

    Args:
      paths: of `PackagedWeights.find`.

    Raises:
      ValueError: another layout than the published one, in one line.
    """
    path = paths[INDEX]
    try:
        tensors = open_bundle(path)
        params = {"input": _norm(tensors, 0), "pooled": _norm(tensors, 9)}
        for name, (layer, norm) in _LAYERS.items():
            params[name] = _affine(tensors, layer) | _norm(tensors, norm)
        return params | {"tags": _affine(tensors, "dense_1")}
    except (ValueError, KeyError, OSError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"weights are {str(path)!r}, expected musicnn's checkpoint ({reason})"
        ) from error


def _affine(tensors: Mapping[str, np.ndarray], layer: str) -> Params:
    return {name: np.array(tensors[f"{layer}/{name}"]) for name in ("kernel", "bias")}


def _norm(tensors: Mapping[str, np.ndarray], number: int) -> Params:
    """Return a batch norm as a factor and a shift."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    gamma, beta, mean, variance = (
        np.asarray(tensors[f"{name}/{part}"], np.float64)
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPS)
    return {
        "scale": scale.astype(np.float32),
        "shift": (beta - mean * scale).astype(np.float32),
    }
