"""The separator as a user calls it: load a model, describe a sound, get it.

`Separator` binds a loaded model; `separate` is the same without a class, for
research that holds parameters of its own. Both hand whole waveforms to
`marssep_jax.streaming`, which keeps rate, channels, length and loudness.
"""

import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from marssep_jax.audio import open_audio, read_audio
from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle
from marssep_jax.bundle_check import require_whole
from marssep_jax.hearing import compose_query, score
from marssep_jax.queries import Query, QueryItem, as_items, removal_items
from marssep_jax.streaming import Separation, stream

AudioFile = str | os.PathLike[str] | io.BufferedIOBase
FILES = (str, os.PathLike, io.BufferedIOBase)


def separate(
    bundle: ModelBundle,
    mixture: Any,
    rate_hz: int,
    query: Query,
    *,
    window_batch: int | None = None,
    mask: str = "mode",
    seed: int = 0,
    per_channel: bool = False,
) -> Separation:
    """Separate a whole waveform; the twin of `Separator` without a class.

    >>> from marssep_jax.hearing import compose_query
    >>> from marssep_jax.untrained import untrained_bundle
    >>> bundle = untrained_bundle()  # load_bundle("runs/...")
    >>> query = compose_query(bundle, [QueryItem("text", "violin", weight=2.0)])
    >>> separate(bundle, np.zeros(8_000), 16_000, query).estimate.shape
    (8000,)

    Args:
      bundle: the model.
      mixture: samples ``[t]`` or ``[channels, t]``, floating.
      rate_hz: their rate.
      query: of `marssep_jax.hearing.compose_query`, or of one's own embedding.
      window_batch: windows a step.
      mask: "mode", "mean" or "sample" of the policy around the model's proposal.
      seed: of what is sampled.
      per_channel: see `marssep_jax.streaming.stream`.

    Returns:
      Estimate and residual of the mixture's shape, and the mask; no scores, which
      `marssep_jax.hearing.score` gives.

    Raises:
      ValueError: a mixture of another shape or type, or not finite.
    """
    rows = _checked_mixture(mixture)
    parts = list(
        stream(
            bundle,
            [np.atleast_2d(rows)],
            rate_hz,
            query,
            window_batch=window_batch,
            mask=mask,
            seed=seed,
            per_channel=per_channel,
        )
    )
    estimate, residual, masks = (
        np.concatenate([part[field] for part in parts], axis=-1) for field in range(3)
    )
    return Separation(estimate.reshape(rows.shape), residual.reshape(rows.shape), masks)


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
        """Load a bundle folder, the bundle of a workdir, or a model by its name.

        Names are those of `marssep_jax.model_names`; a folder of that path comes first.

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
        return compose_query(self.bundle, items, remove)

    def __call__(
        self,
        mixture: Any,
        rate: int | None = None,
        *,
        text: Any = None,
        audio: Any = None,
        image: Any = None,
        remove: Any = None,
        query: Query | None = None,
        mask: str = "mode",
        seed: int = 0,
        per_channel: bool = False,
    ) -> Separation:
        """Separate a waveform ``[t]`` or ``[channels, t]``, or a file.

        Args:
          mixture: samples with their ``rate``, a file name, or an open binary file.
          rate: in Hz; not for a file, which knows its own.
          text: see `embed`.
          audio: see `embed`.
          image: see `embed`.
          remove: see `embed`.
          query: in place of these four, what `embed` or `compose` returned.
          mask: "mode", "mean" or "sample" of the policy.
          seed: of what is sampled.
          per_channel: see `marssep_jax.streaming.stream`.

        Returns:
          Estimate, residual, mask, and scores as `marssep_jax.hearing.score` gives
          them.

        Raises:
          ValueError: bad samples, rate or query.
          OSError: a missing file or a folder.
        """
        asked = self._asked(query, text=text, audio=audio, image=image, remove=remove)
        if isinstance(mixture, FILES):
            _require_no_rate(rate)
            mixture, rate = read_audio(mixture, "mixture")
        if rate is None:
            raise ValueError("rate is None, expected the mixture's sample rate in Hz")
        found = separate(
            self.bundle,
            mixture,
            rate,
            asked,
            window_batch=self.window_batch,
            mask=mask,
            seed=seed,
            per_channel=per_channel,
        )
        scores = score(self.bundle, np.asarray(mixture), found, rate, asked)
        return found._replace(scores=scores)

    def stream(
        self,
        mixture: AudioFile | Iterable[Float[np.ndarray, "c _"]],
        rate: int | None = None,
        query: Query | None = None,
        *,
        text: Any = None,
        audio: Any = None,
        image: Any = None,
        remove: Any = None,
        mask: str = "mode",
        seed: int = 0,
        per_channel: bool = False,
    ) -> Iterator[Separation]:
        """Separate a file, or blocks as they arrive, in constant memory.

        Arguments and errors are those of a call, but that a mixture which is no file
        is an iterable of blocks ``[channels, any]``.

        Yields:
          Consecutive parts, see `marssep_jax.streaming.stream`; no scores.
        """
        asked = self._asked(query, text=text, audio=audio, image=image, remove=remove)
        options: dict[str, Any] = {
            "window_batch": self.window_batch,
            "mask": mask,
            "seed": seed,
            "per_channel": per_channel,
        }
        if isinstance(mixture, FILES):
            _require_no_rate(rate)
            with open_audio(mixture, "mixture") as reader:
                rate_hz = reader.info.rate_hz
                yield from stream(
                    self.bundle, reader.blocks(), rate_hz, asked, **options
                )
            return
        if rate is None:
            raise ValueError("rate is None, expected the mixture's sample rate in Hz")
        yield from stream(self.bundle, mixture, rate, asked, **options)

    def _asked(self, query: Query | None, **words: Any) -> Query:
        """Return the query that was given, in one way or the other."""
        if query is None:
            return self.embed(**words)
        given = [name for name, value in words.items() if value is not None]
        if given:
            raise ValueError(
                f"{given[0]} is given beside query, expected one of the two"
            )
        return query


def _require_no_rate(rate: int | None) -> None:
    if rate is not None:
        raise ValueError(f"rate is {rate}, expected none for a file, which has its own")
