"""The separator as a user calls it: load a model, describe a sound, get it.

`Separator` binds a loaded model; `separate` is the same without a class, for
research that holds parameters of its own. Both hand whole waveforms to
`marssep_jax.streaming`, which keeps rate, channels, length and loudness.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from marssep_jax.audio import read_audio
from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle
from marssep_jax.config import (
    EncoderConfig,
    FrontendConfig,
    SeparatorConfig,
    from_dict,
)
from marssep_jax.queries import (
    Query,
    QueryItem,
    as_items,
    embed_query,
    make_embedder,
    removal_items,
)
from marssep_jax.streaming import Separation, frontend_config, stream

CONFIG_KINDS = {
    "frontend": FrontendConfig,
    "separator": SeparatorConfig,
    "encoder": EncoderConfig,
}


def separate(
    bundle: ModelBundle,
    mixture: Any,
    rate_hz: int,
    query: Query,
    *,
    window_batch: int | None = None,
) -> Separation:
    """Separate a whole waveform; the twin of `Separator` without a class.

    Args:
      bundle: the model.
      mixture: samples ``[t]`` or ``[channels, t]``, floating.
      rate_hz: their rate.
      query: of `Separator.embed` or `marssep_jax.queries.embed_query`.
      window_batch: windows a step.

    Returns:
      Target and residual of the mixture's shape, and the mask.

    Raises:
      ValueError: a mixture of another shape or type, or not finite.
    """
    rows = _checked_mixture(mixture)
    channels = rows if rows.ndim == 2 else rows[None]
    parts = list(stream(bundle, [channels], rate_hz, query, window_batch=window_batch))
    target, residual, mask = (
        np.concatenate(pieces, axis=-1) for pieces in zip(*parts, strict=True)
    )
    return Separation(target.reshape(rows.shape), residual.reshape(rows.shape), mask)


def _checked_mixture(mixture: Any) -> np.ndarray:
    rows = np.asarray(mixture)
    if rows.ndim not in (1, 2) or 0 in rows.shape:
        raise ValueError(
            f"mixture has shape {rows.shape}, expected [t] or [channels, t]"
        )
    if not np.issubdtype(rows.dtype, np.floating):
        raise ValueError(
            f"mixture has dtype {rows.dtype}, expected floating samples in [-1, 1]"
        )
    rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("mixture holds NaN or infinite samples, expected finite ones")
    return rows


@dataclasses.dataclass(frozen=True)
class Separator:
    """A loaded model, ready to separate.

    Attributes:
      bundle: parameters and settings.
      window_batch: windows a step; default 1 on a CPU, else 8.
    """

    bundle: ModelBundle
    window_batch: int | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Separator":
        """Load a bundle folder, or the bundle of a workdir.

        Raises:
          ValueError, OSError: not a checkpoint.
        """
        bundle = load_bundle(resolve_bundle(path))
        for part, kind in CONFIG_KINDS.items():  # a bad one must show here
            if part != "encoder" or bundle.config[part] is not None:
                from_dict(kind, bundle.config[part])
        # Once, rather than from host memory at every window.
        placed = jax.device_put(
            (bundle.separator_params, bundle.model_state, bundle.encoder_params)
        )
        return cls(
            bundle._replace(
                separator_params=placed[0],
                model_state=placed[1],
                encoder_params=placed[2],
            )
        )

    def embed(
        self,
        *,
        text: Any = None,
        audio: Any = None,
        image: Any = None,
        remove: Any = None,
    ) -> Query:
        """Compose a query.

        Args:
          text: words, or several.
          audio: a file name or ``(waveform, rate)``, or several.
          image: a file name or uint8 ``[h, w, 3]``, or several.
          remove: words, or a mapping such as ``{"audio": "dog.wav"}``; alone, it
            asks for all the rest.

        Raises:
          ValueError: nothing given, or something unreadable.
        """
        items = [
            *as_items(text, "text"),
            *as_items(audio, "audio"),
            *as_items(image, "image"),
        ]
        return self.compose(items, removal_items(remove))

    def compose(
        self, items: Sequence[QueryItem], remove: Sequence[QueryItem] = ()
    ) -> Query:
        """Compose a query of weighted items.

        Raises:
          ValueError: nothing given, something unreadable, or a model without an
            encoder, such as a converted one: its queries are vectors (`separate`).
        """
        if self.bundle.config["encoder"] is None:
            raise ValueError(
                "checkpoint has no encoder, expected one that understands words, clips "
                "or pictures: a converted separator takes vectors of its own encoder"
            )
        encoder_config = from_dict(EncoderConfig, self.bundle.config["encoder"])
        embedder = make_embedder(encoder_config, frontend_config(self.bundle))
        params = self.bundle.encoder_params["encoder"]
        return embed_query(embedder, params, items, remove)

    def __call__(
        self,
        mixture: Any,
        rate: int | None = None,
        *,
        text: Any = None,
        audio: Any = None,
        image: Any = None,
        remove: Any = None,
    ) -> Separation:
        """Separate a waveform ``[t]`` or ``[channels, t]``, or a file.

        Args:
          mixture: samples with their ``rate``, or a file name.
          rate: in Hz; not for a file, which knows its own.
          text: see `embed`.
          audio: see `embed`.
          image: see `embed`.
          remove: see `embed`.

        Raises:
          ValueError: bad samples, rate or query.
        """
        if isinstance(mixture, (str, os.PathLike)):
            mixture, rate = read_audio(mixture, "mixture")
        if rate is None:
            raise ValueError("rate is None, expected the mixture's sample rate in Hz")
        query = self.embed(text=text, audio=audio, image=image, remove=remove)
        return separate(
            self.bundle, mixture, rate, query, window_batch=self.window_batch
        )

    def stream(
        self, blocks: Iterable[Float[np.ndarray, "c _"]], rate: int, query: Query
    ) -> Iterator[Separation]:
        """Separate blocks as they arrive; see `marssep_jax.inference.stream`."""
        return stream(self.bundle, blocks, rate, query, window_batch=self.window_batch)
