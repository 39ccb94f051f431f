"""The sound-effects network aiSFX (Ma and Lerch, ISMIR 2022), for JAX.

Trained on commercial libraries of sound effects to tell their categories apart, in
eight label systems at once. Log-mel blocks of 100 frames at 44.1 kHz go through four
pairs of 3 x 3 convolutions; the mean over frequency and then the maximum over time
are the embedding, of 512 numbers.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.conversion import torch_pickle
from marssep_jax.conversion.rules import TRANSFORMS
from marssep_jax.conversion.torch_objects import StoredTensor
from marssep_jax.judges.hearing import (
    compressed,
    convolve,
    even_blocks,
    heard_in_groups,
    levelled,
    mel_power,
    unit_sum_filters,
)
from marssep_jax.preprocessing.framing import as_float32
from marssep_jax.preprocessing.resampling import resample_sinc
from marssep_jax.types import Params
from marssep_jax.weights.mapped import MappedFile, view
from marssep_jax.weights.packages import PackagedWeights
from marssep_jax.weights.stored_zip import members

RATE_HZ = 44_100
NUM_MELS = 96
N_FFT, HOP_SAMPLES = 2_048, 1_024
BLOCK_FRAMES = 100
NORMALISER = 9.4578
"""The largest log-mel of its training set, which becomes 1."""
NUM_BLOCKS = 4
BATCH_NORM_EPS = 1e-5
CHECKPOINT = "models/checkpoint.pth"

WEIGHTS = PackagedWeights(
    name="aisfx",
    package="aisfx",
    requirement="aisfx==0.1.2",
    licence="CC BY 4.0",
    notice="aiSFX, (c) 2022 A. B. Ma and A. Lerch",
    files={
        CHECKPOINT: "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
    },
)


def log_mel(waveform: Float[Array, "b t"]) -> Float[Array, "b n 96"]:
    """Return the network's input, n = 1 + t // 1024, from samples at 44.1 kHz."""
    filters = unit_sum_filters(NUM_MELS, RATE_HZ, N_FFT)
    power = mel_power(waveform, filters, N_FFT, HOP_SAMPLES)
    return compressed(power) / NORMALISER


def forward(params: Params, blocks: Float[Array, "b s m"]) -> Float[Array, "b d"]:
    """Embed blocks of frames.

    Args:
      params: of `read_params`; the widths are those of the arrays.
      blocks: log-mel blocks, time first.
    """
    value = blocks[..., None]
    for number in range(NUM_BLOCKS):
        block = params[f"block_{number}"]
        for name in ("conv_0", "conv_1"):
            layer = block[name]
            bias = layer["bias"].reshape(1, 1, 1, -1)
            value = jax.nn.relu(convolve(value, layer["kernel"], "SAME") + bias)
        if number < NUM_BLOCKS - 1:
            value = jax.lax.reduce_window(
                value, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            )
    return value.mean(axis=2).max(axis=1)


def embed(
    params: Params, waveform: Float[Array, "*b t"], rate_hz: int
) -> Float[Array, "*b d"]:
    """Return the mean embedding of a clip's blocks; compiles.

    Args:
      params: of `read_params`.
      waveform: samples of any level.
      rate_hz: their rate. They are resampled where they are, so that a judge is one
        compiled function; what the short filter lets through above the old Nyquist
        frequency is the same for the clips that a probe was fitted on.

    Raises:
      ValueError: not floating, or no samples.
    """

    def hear(clips: Array) -> Array:
        sound = levelled(resample_sinc(clips, rate_hz, RATE_HZ))
        blocks = even_blocks(log_mel(sound), BLOCK_FRAMES)
        found = forward(params, blocks.reshape(-1, *blocks.shape[2:]))
        return found.reshape(*blocks.shape[:2], -1).mean(axis=1)

    # Judges should agree on every machine: no short floats.
    with jax.default_matmul_precision("highest"):
        return heard_in_groups(hear, as_float32(waveform))


def read_params(paths: Mapping[str, Any]) -> Params:
    """Read the network out of its published file, batch norms folded in.

    Args:
      paths: of `PackagedWeights.find`.

    Raises:
      ValueError: another layout than the published one, in one line.
    """
    path = paths[CHECKPOINT]
    try:
        tensors = _read_pair(path)
        return {f"block_{n}": _block(tensors, n) for n in range(NUM_BLOCKS)}
    except (ValueError, KeyError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"weights are {str(path)!r}, expected aiSFX's checkpoint ({reason})"
        ) from error


def _read_pair(path: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a file that pickles (state dict, label systems)."""
    file = MappedFile(path)
    found = members(file)
    name = next((name for name in found if name.endswith("/data.pkl")), None)
    if name is None:
        raise ValueError("it is a zip without a checkpoint in it")
    pickle = bytes(file.piece(found[name].start, found[name].size))
    # The label systems are objects of scikit-learn, which are passed over.
    described = torch_pickle.load(pickle, placeholders=True)
    if not isinstance(described, tuple) or not isinstance(described[0], dict):
        raise ValueError("it holds no pair that begins with a dict of tensors")
    tensors = {}
    for key, stored in described[0].items():
        if isinstance(stored, StoredTensor):
            place = found[name.removesuffix(".pkl") + f"/{stored.storage.key}"]
            piece = file.piece(place.start, place.size)
            tensors[key] = view(
                piece, stored.dtype, stored.shape, stored.strides, stored.offset
            )
    return tensors


def _block(tensors: Mapping[str, np.ndarray], number: int) -> Params:
    prefix = f"embedding_net.conv_block{number + 1}"
    return {f"conv_{n}": _layer(tensors, prefix, n + 1) for n in range(2)}


def _layer(tensors: Mapping[str, np.ndarray], prefix: str, number: int) -> Params:
    norm = {
        name: np.asarray(tensors[f"{prefix}.bn{number}.{name}"], np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    kernel = TRANSFORMS["conv"](tensors[f"{prefix}.conv{number}.weight"])
    scale = norm["weight"] / np.sqrt(norm["running_var"] + BATCH_NORM_EPS)
    bias = norm["bias"] - norm["running_mean"] * scale
    return {
        "kernel": (kernel * scale).astype(np.float32),
        "bias": bias.astype(np.float32),
    }
