"""One vector for a clip of any length, always the same.

The published feature extractors crop long clips at random, so that their scores
change from run to run. Here every sample is heard once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.encoders.clap.model import Clap
from marssep_jax.encoders.contract import normalise
from marssep_jax.preprocessing.clap_mel import clap_log_mel
from marssep_jax.preprocessing.clips import clap_windows
from marssep_jax.types import Params


def make_clip_embedding(
    clap: Clap,
    log_mel: Callable[[Float[Array, "*b t"]], Float[Array, "*b n m"]] = clap_log_mel,
) -> Callable[[Params, Float[Array, "*b t"]], Float[Array, "*b d"]]:
    """Build ``embed(params, waveform [..., t]) -> unit vectors [..., d]``.

    The clip, 48 kHz, is cut into consecutive windows of 10 s (`clap_windows`). The
    embedding is the mean of the windows' *unit vectors*, each weighted by how much
    of the clip it holds, scaled back to unit length. A clip of at most 10 s is
    embedded as the published extractor does it.

    Args:
      clap: one that is not fused.
      log_mel: a window to the features that ``clap.audio`` takes.

    Raises:
      ValueError: by ``embed``, if a waveform has no samples.
    """

    def embed(params: Params, waveform: Float[Array, "*b t"]) -> Float[Array, "*b d"]:
        windows, weight = clap_windows(waveform)
        # One after another: an hour is 360 windows, too many to hold at once.
        unit = jax.lax.map(
            lambda window: clap.audio(params, log_mel(window)),
            jnp.moveaxis(windows, -2, 0),
        )
        return normalise(jnp.einsum("w,w...d->...d", weight, unit))

    return embed
