"""What the reward's encoder hears of a sampled mask.

The waveform listener is the paper's way: mask, mixture phase, inverse STFT,
encoder. The grid listener is the shortcut: it masks the log-frequency
magnitudes that the encoder would compute anyway, and so skips two STFTs a mask.
It differs because a masked STFT is in general no STFT of any waveform.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.encoders.contract import normalise
from marssep_jax.features import Frontend
from marssep_jax.reconstruct import make_reconstruct
from marssep_jax.types import AnchorFn, Estimate, Features, ListenFn, MixtureBatch

EncodeFn = Callable[[Float[Array, "..."]], Float[Array, "..."]]
WAVES_AT_ONCE = 64
"""Enough to keep a device busy; ImageBind's ear takes 25 MB for each of them."""


def make_waveform_listener(
    frontend: Frontend,
    encode_audio: EncodeFn,
    length: int | None = None,
    *,
    waves_at_once: int = WAVES_AT_ONCE,
) -> ListenFn:
    """Build the listener that reconstructs every estimate.

    Masks of a group are heard in parts, one after the other, where the batch has more
    of them than ``waves_at_once``: what hearing takes is then independent of the group.

    Args:
      frontend: signal front end of the mixture's features.
      encode_audio: waveforms [..., T] -> embeddings [..., D], parameters closed
        over.
      length: samples T of an estimate; the front end's clip length by default.
      waves_at_once: estimates of a batch heard together; never less than one mask of
        every target.
    """
    reconstruct = make_reconstruct(frontend, length or frontend.config.num_samples)

    def hear(mask: Float[Array, "b k g h w"], features: Features) -> Estimate:
        waveform = reconstruct(mask, features.stft)
        return Estimate(encode_audio(waveform), waveform)

    def listen(mask: Float[Array, "b k g h w"], features: Features) -> Estimate:
        b, k, group, h, w = mask.shape
        most = max(1, waves_at_once // (b * k))
        size = max(n for n in range(1, group + 1) if n <= most and group % n == 0)
        if size == group:
            return hear(mask, features)
        # The group is split and not the batch, whose rows lie on several devices.
        parts = jnp.moveaxis(mask.reshape(b, k, -1, size, h, w), 2, 0)
        heard = jax.lax.map(lambda part: hear(part, features), parts)

        def joined(values: Float[Array, "n b k s d"]) -> Float[Array, "b k g d"]:
            return jnp.moveaxis(values, 0, 2).reshape(b, k, group, values.shape[-1])

        return jax.tree.map(joined, heard)

    return listen


def make_grid_listener(frontend: Frontend, encode_grid: EncodeFn) -> ListenFn:
    """Build the listener that masks log-frequency magnitudes directly.

    Args:
      frontend: signal front end; its floor keeps the logarithm finite.
      encode_grid: log magnitudes [..., H, W] -> embeddings [..., D], parameters
        closed over.
    """
    floor = frontend.config.log_floor

    def listen(mask: Float[Array, "b k g h w"], features: Features) -> Estimate:
        magnitude = mask * features.grid_magnitude[:, None, None]
        return Estimate(encode_grid(jnp.log(magnitude + floor)), None, magnitude)

    return listen


def join_listeners(listeners: Sequence[ListenFn]) -> ListenFn:
    """Build a listener that several encoders hear through at once (ours).

    Unit embeddings are laid side by side, so that a cosine with anchors of
    ``join_anchors`` is the mean of the encoders' cosines. What one encoder can be
    fooled into, the others may not hear.

    Args:
      listeners: of several encoders, in one order; waveform and magnitude are taken
        from the first.

    Raises:
      ValueError: no listener.
    """
    if not listeners:
        raise ValueError("listeners is empty, expected one or more")

    def listen(mask: Float[Array, "b k g h w"], features: Features) -> Estimate:
        heard = [each(mask, features) for each in listeners]
        joined = jnp.concatenate([normalise(each.embedding) for each in heard], axis=-1)
        return heard[0]._replace(embedding=joined)

    return listen


def join_anchors(anchors: Sequence[AnchorFn]) -> AnchorFn:
    """Build the anchors that go with ``join_listeners``, in the same order.

    Raises:
      ValueError: no anchor.
    """
    if not anchors:
        raise ValueError("anchors is empty, expected one or more")

    def anchor(batch: MixtureBatch) -> Float[Array, "b k d"]:
        return jnp.concatenate([normalise(each(batch)) for each in anchors], axis=-1)

    return anchor
