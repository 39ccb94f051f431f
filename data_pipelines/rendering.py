"""From stored clips to the sources of a mixture, the same bits everywhere.

Clips are int16. What stands in a manifest beside a clip says how loud it is:

- ``gain_db``: relative to a common level, so that a source is q x / 2^27 with the
  integer q next to 2^12 (level / rms(x)) 10^(gain_db / 20);
- ``gain``: the recording's own level times a float32, g x / 2^15. With ``less``, a
  clip and its row, that clip is taken away first: what else is in a mixture whose
  target is stored beside it.

Each is an integer times one factor, rounded to float32 once.
"""

import math
from typing import Any

import numpy as np

from data_pipelines.catalogue import Catalogue
from data_pipelines.levels import LEVEL

FACTOR_BITS = 12
"""A source's factor is a multiple of 2^-12."""


def render_source(
    entry: dict[str, Any], item: dict[str, Any], catalogue: Catalogue
) -> np.ndarray:
    """Make one source of a mixture.

    Args:
      entry: One of a manifest's mixtures.
      item: One of its sources.
      catalogue: The data set it was drawn from.

    Returns:
      float32 [num_samples].

    Raises:
      ValueError: the data set has no such clip.
    """
    crop = _crop(entry, item, item["offset"], catalogue)
    if "gain" not in item:
        return _at_level(crop, item["gain_db"])
    if "less" in item:
        crop = crop - _crop(entry, item["less"], item["offset"], catalogue)
    return at_gain(crop, item["gain"])


def at_gain(crop: np.ndarray, gain: float) -> np.ndarray:
    """Scale integer samples to float32 by a float32 gain, rounding once."""
    exact = crop.astype(np.float64) * float(np.float32(gain))
    return (exact * 2.0**-15).astype(np.float32)


def _crop(
    entry: dict[str, Any], item: dict[str, Any], offset: int, catalogue: Catalogue
) -> np.ndarray:
    split, row = entry["split"], item["row"]
    names = catalogue.clip_id.get(split, ())
    if not 0 <= row < len(names) or names[row] != item["clip_id"]:
        raise ValueError(
            f"mixture {entry['id']} wants clip {item['clip_id']!r} at row {row} of "
            f"{split!r}, expected the data set to have it; prepare it again"
        )
    end = offset + entry["num_samples"]
    return catalogue.clips[split][row, offset:end].astype(np.int64)


def _at_level(crop: np.ndarray, gain_db: float) -> np.ndarray:
    rms = math.sqrt(int(np.sum(crop * crop)) / len(crop))
    factor = LEVEL * 2**15 / rms * 10.0 ** (gain_db / 20)
    whole = round(2**FACTOR_BITS * factor)
    return (whole * crop).astype(np.float32) * np.float32(2.0 ** -(15 + FACTOR_BITS))
