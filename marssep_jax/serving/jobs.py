"""One separation of the page, from what was sent to the files it becomes."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from marssep_jax.config import FrontendConfig
from marssep_jax.file_jobs import separate_recording
from marssep_jax.inference import Separator, score
from marssep_jax.preprocessing.pictures import read_picture
from marssep_jax.queries import Query, QueryItem
from marssep_jax.serving import pictures
from marssep_jax.serving.limits import Limits
from marssep_jax.serving.sent_files import open_recording
from marssep_jax.serving.uploads import Asked, Item
from marssep_jax.streaming import Separation, frontend_config

SOUNDS = ("estimate", "residual")
FILES = (
    *(f"{name}.wav" for name in SOUNDS),
    *(f"{name}.png" for name in ("mixture", "mask", *SOUNDS)),
)
# The encoder hears the beginning only: its scores are a hint, and it can be large.
SCORED_S = 60.0


class StoppedError(Exception):
    """The visitor has left; nobody is told."""


class Watcher:
    """Draws what goes by and keeps the beginning for the scores."""

    def __init__(
        self,
        config: FrontendConfig,
        rate_hz: int,
        tell: Callable[[float], None],
        stop: threading.Event,
    ) -> None:
        self._tell = tell
        self._stop = stop
        self._rate_hz = rate_hz
        self._mask = pictures.Columns(config.num_rows)
        self._drawn = [pictures.Spectrogram(config, rate_hz) for _ in range(3)]
        self._kept: list[list[np.ndarray]] = [[], [], []]
        self._room = round(SCORED_S * rate_hz)

    def __call__(self, part: Separation, share: float) -> None:
        """Take one part."""
        if self._stop.is_set():
            raise StoppedError
        monos = [rows.mean(axis=0) for rows in (part.estimate, part.residual)]
        monos.insert(0, monos[0] + monos[1])
        for drawn, kept, mono in zip(self._drawn, self._kept, monos, strict=True):
            drawn.add(mono)
            kept.append(mono[: self._room])
        self._room -= min(self._room, monos[0].size)
        self._mask.add(part.mask)
        self._tell(share)

    def draw(self, folder: Path) -> None:
        """Write the pictures."""
        powers = [drawn.power() for drawn in self._drawn]
        loudest = max(float(power.max()) for power in powers)
        for name, power in zip(("mixture", *SOUNDS), powers, strict=True):
            values = pictures.decibels(power, loudest)
            pictures.save_png(folder / f"{name}.png", values, pictures.HEAT)
        pictures.save_png(folder / "mask.png", self._mask.cells(), pictures.GLOW)

    def scores(self, separator: Separator, query: Query) -> dict[str, float]:
        """Return `marssep_jax.inference.score` of the beginning, in mono."""
        mixture, estimate, residual = (np.concatenate(kept) for kept in self._kept)
        found = Separation(estimate, residual, _NO_MASK)
        return score(separator.bundle, mixture, found, self._rate_hz, query)


_NO_MASK: Float[np.ndarray, "h w"] = np.zeros((1, 1), np.float32)


def as_query_item(item: Item, limits: Limits) -> QueryItem:
    """Read what an item holds.

    Raises:
      ValueError: not a recording or a picture, or too long.
    """
    if item.file is None:
        return QueryItem("text", item.text, item.weight, "text")
    if item.modality == "image":
        return QueryItem(
            "image", read_picture(item.file, "picture"), item.weight, "picture"
        )
    with open_recording(item.file, "clip", limits) as reader:
        waveform = np.concatenate(list(reader.blocks()), axis=1)
        value = waveform, reader.info.rate_hz
    return QueryItem("audio", value, item.weight, f"clip {item.file.name!r}")


def separate(
    separator: Separator,
    asked: Asked,
    folder: Path,
    limits: Limits,
    tell: Callable[[float], None],
    stop: threading.Event,
) -> dict[str, Any]:
    """Separate what was sent into `FILES` in a folder.

    Args:
      separator: the model.
      asked: the request.
      folder: an existing one, for this request alone.
      limits: what may be asked.
      tell: hears the share that is done.
      stop: set where the visitor has left.

    Returns:
      What the page shows beside the files.

    Raises:
      ValueError, OSError: something unreadable, or no room.
      StoppedError: the visitor has left.
    """
    config = frontend_config(separator.bundle)
    query = separator.compose(
        [as_query_item(item, limits) for item in asked.items if not item.remove],
        [as_query_item(item, limits) for item in asked.items if item.remove],
    )
    if stop.is_set():
        raise StoppedError
    with open_recording(asked.mixture, "mixture", limits) as reader:
        watcher = Watcher(config, reader.info.rate_hz, tell, stop)
        row = separate_recording(
            separator,
            reader.info,
            reader.blocks(),
            [folder / f"{name}.wav" for name in SOUNDS],
            query,
            watcher,
            mask=asked.mask,
            seed=asked.seed,
        )
    watcher.draw(folder)
    row["scores"] = watcher.scores(separator, query)
    row["seconds"] = row["num_samples"] / row["sample_rate_hz"]
    row["ticks"] = pictures.ticks(config)
    return row
