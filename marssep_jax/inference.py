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
from marssep_jax.bundle_check import require_whole
from marssep_jax.config import EncoderConfig, from_dict
from marssep_jax.queries import (
    Embedder,
    Query,
    QueryItem,
    as_items,
    embed_item,
    embed_query,
    make_embedder,
    removal_items,
)
from marssep_jax.streaming import Separation, frontend_config, stream


def separate(
    bundle: ModelBundle,
    mixture: Any,
    rate_hz: int,
    query: Query,
    *,
    window_batch: int | None = None,
    mask: str = "mode",
    seed: int = 0,
) -> Separation:
    """Separate a whole waveform; the twin of `Separator` without a class.

    Args:
      bundle: the model.
      mixture: samples ``[t]`` or ``[channels, t]``, floating.
      rate_hz: their rate.
      query: of `Separator.embed` or `marssep_jax.queries.embed_query`.
      window_batch: windows a step.
      mask: "mode", "mean" or "sample" of the policy around the model's proposal.
      seed: of what is sampled.

    Returns:
      Estimate and residual of the mixture's shape, and the mask; no scores.

    Raises:
      ValueError: a mixture of another shape or type, or not finite.
    """
    rows = _checked_mixture(mixture)
    channels = rows if rows.ndim == 2 else rows[None]
    options: dict[str, Any] = {"window_batch": window_batch, "mask": mask, "seed": seed}
    parts = list(stream(bundle, [channels], rate_hz, query, **options))
    estimate, residual, masks = (
        np.concatenate([part[field] for part in parts], axis=-1) for field in range(3)
    )
    return Separation(estimate.reshape(rows.shape), residual.reshape(rows.shape), masks)


def score(
    bundle: ModelBundle, mixture: Any, found: Separation, rate_hz: int, query: Query
) -> dict[str, float]:
    """Say what the model's own encoder makes of a separation.

    Args:
      bundle: the model; it has an encoder.
      mixture: what was separated.
      found: the separation.
      rate_hz: their rate.
      query: what was asked for.

    Returns:
      ``similarity`` and ``mixture_similarity``: cosine with the query's embedding,
      of what was kept of it (the residual, for a query of removals alone) and of the
      mixture; 0 for silence. The reward is made of such cosines, so they are no
      independent judgement. ``energy_share``: of estimate against mixture.
    """
    described = found.residual if query.complement else found.estimate
    power = [float(np.mean(np.square(rows))) for rows in (found.estimate, mixture)]
    return {
        "similarity": _similarity(bundle, described, rate_hz, query),
        "mixture_similarity": _similarity(bundle, mixture, rate_hz, query),
        "energy_share": power[0] / power[1] if power[1] else 0.0,
    }


def _similarity(
    bundle: ModelBundle, waveform: Any, rate_hz: int, query: Query
) -> float:
    if not np.any(np.atleast_2d(waveform).mean(axis=0)):
        return 0.0
    item = QueryItem("audio", (np.asarray(waveform), rate_hz))
    heard = embed_item(_embedder(bundle), bundle.encoder_params["encoder"], item)
    return float(heard @ query.embedding)


def _embedder(bundle: ModelBundle) -> Embedder:
    config = from_dict(EncoderConfig, bundle.config["encoder"])
    return make_embedder(config, frontend_config(bundle))


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

    >>> from marssep_jax.untrained import untrained_bundle
    >>> separator = Separator(untrained_bundle())  # Separator.load("runs/...")
    >>> mixture = np.random.default_rng(0).normal(0, 0.1, (2, 44_100))
    >>> found = separator(mixture, 44_100, text="violin", remove="flute")
    >>> found.estimate.shape, found.residual.shape
    ((2, 44100), (2, 44100))
    >>> bool(np.allclose(found.estimate + found.residual, mixture, atol=1e-6))
    True
    >>> sorted(found.scores)
    ['energy_share', 'mixture_similarity', 'similarity']

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
        require_whole(bundle)  # what is wrong with a model must show here
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
        params = self.bundle.encoder_params["encoder"]
        return embed_query(_embedder(self.bundle), params, items, remove)

    def __call__(
        self,
        mixture: Any,
        rate: int | None = None,
        *,
        text: Any = None,
        audio: Any = None,
        image: Any = None,
        remove: Any = None,
        mask: str = "mode",
        seed: int = 0,
    ) -> Separation:
        """Separate a waveform ``[t]`` or ``[channels, t]``, or a file.

        Args:
          mixture: samples with their ``rate``, or a file name.
          rate: in Hz; not for a file, which knows its own.
          text: see `embed`.
          audio: see `embed`.
          image: see `embed`.
          remove: see `embed`.
          mask: "mode", "mean" or "sample" of the policy.
          seed: of what is sampled.

        Returns:
          Estimate, residual, mask, and scores as `score` gives them.

        Raises:
          ValueError: bad samples, rate or query.
        """
        if isinstance(mixture, (str, os.PathLike)):
            mixture, rate = read_audio(mixture, "mixture")
        if rate is None:
            raise ValueError("rate is None, expected the mixture's sample rate in Hz")
        query = self.embed(text=text, audio=audio, image=image, remove=remove)
        found = separate(
            self.bundle,
            mixture,
            rate,
            query,
            window_batch=self.window_batch,
            mask=mask,
            seed=seed,
        )
        scores = score(self.bundle, np.asarray(mixture), found, rate, query)
        return found._replace(scores=scores)

    def stream(
        self,
        blocks: Iterable[Float[np.ndarray, "c _"]],
        rate: int,
        query: Query,
        *,
        mask: str = "mode",
        seed: int = 0,
    ) -> Iterator[Separation]:
        """Separate blocks as they arrive; see `marssep_jax.streaming.stream`."""
        return stream(
            self.bundle,
            blocks,
            rate,
            query,
            window_batch=self.window_batch,
            mask=mask,
            seed=seed,
        )
