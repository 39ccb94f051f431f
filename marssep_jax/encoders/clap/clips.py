"""One vector for a clip of any length, always the same.

The published feature extractors crop long clips at random, so that their scores
change from run to run. Here every sample is heard once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.encoders.clap.model import Clap
from marssep_jax.encoders.trimodal import normalise
from marssep_jax.types import Params

WINDOW_SAMPLES = 480_000
"""10 s at 48 kHz."""


def repeat_pad(waveform: Float[Array, "*b t"], length: int) -> Float[Array, "*b o"]:
    """Repeat a clip as often as it fits whole into ``length`` samples, then zeros."""
    num_samples = waveform.shape[-1]
    whole = jnp.tile(waveform, length // num_samples)
    lead = ((0, 0),) * (waveform.ndim - 1)
    return jnp.pad(whole, (*lead, (0, length % num_samples)))


def make_clip_embedding(
    clap: Clap,
    log_mel: Callable[[Float[Array, "*b t"]], Float[Array, "*b n m"]],
    window_samples: int = WINDOW_SAMPLES,
) -> Callable[[Params, Float[Array, "*b t"]], Float[Array, "*b d"]]:
    """Build ``embed(params, waveform [..., t]) -> unit vectors [..., d]``.

    The clip is cut into consecutive windows from its start; what is left at the end
    is repeated and padded as a short clip is (`repeat_pad`). The embedding is the
    mean of the windows' *unit vectors*, each weighted by the samples of the clip in
    it, scaled back to unit length. A clip of at most one window is embedded as the
    published extractor does it.

    Args:
      clap: one that is not fused.
      log_mel: waveform [..., window_samples] to the features that ``clap.audio``
        takes.
      window_samples: length of a window.

    Raises:
      ValueError: by ``embed``, if a waveform has no samples.
    """

    def embed(params: Params, waveform: Float[Array, "*b t"]) -> Float[Array, "*b d"]:
        num_samples = waveform.shape[-1]
        if not num_samples:
            raise ValueError(
                f"waveform is {waveform.shape}, expected [..., t] with t >= 1"
            )
        count, rest = divmod(num_samples, window_samples)
        total = jnp.zeros((*waveform.shape[:-1], clap.embed_dim))
        if count:
            whole = waveform[..., : num_samples - rest]
            windows = whole.reshape(*waveform.shape[:-1], count, window_samples)
            # One after another: an hour is 360 windows, too many to hold at once.
            unit = jax.lax.map(
                lambda window: clap.audio(params, log_mel(window)),
                jnp.moveaxis(windows, -2, 0),
            )
            total = total + window_samples * jnp.sum(unit, axis=0)
        if rest:
            last = repeat_pad(waveform[..., num_samples - rest :], window_samples)
            total = total + rest * clap.audio(params, log_mel(last))
        return normalise(total / num_samples)

    return embed
