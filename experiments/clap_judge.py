"""A converted CLAP as judge: does it sound like the words, and like the target?

``clap_text`` is 100 times the cosine between the estimate and the words that ask for
its target, ``clap_audio`` that between the estimate and the target itself: percent,
as the published tables print them. Waveforms are brought to 48 kHz, cut to 16 bits
as LAION's package does, and heard as a whole in windows of 10 s at fixed places
(`marssep_jax.encoders.clap.make_clip_embedding`); nothing is drawn by chance.

A folder is what ``python -m experiments.convert --encoder=clap`` writes, with the
checkpoint's tokenizer.json (or vocab.json and merges.txt) put beside it.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.config import from_dict
from marssep_jax.encoders.clap import (
    ClapAudioConfig,
    ClapConfig,
    ClapTextConfig,
    make_clap,
    make_clip_embedding,
)
from marssep_jax.evaluation import Batch, Scorer
from marssep_jax.preprocessing.clap_mel import quantise_int16
from marssep_jax.preprocessing.clips import CLAP_RATE_HZ
from marssep_jax.preprocessing.resampling import resample_sinc
from marssep_jax.preprocessing.roberta_tokens import TEXT_LENGTH, make_roberta_tokenizer
from marssep_jax.sharding import where_data_are
from marssep_jax.weights.store import load_encoder

PREFIX = "clap:"
PERCENT = 100.0


class ClapJudge(NamedTuple):
    """A CLAP, ready to score; ``credit`` says whose weights it has."""

    score: Scorer
    credit: dict[str, Any]


def split_names(names: Sequence[str]) -> tuple[list[str], str | None]:
    """Take ``clap:FOLDER`` out of the names of judges.

    Raises:
      ValueError: several of them, or one without a folder.
    """
    folders = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    others = [name for name in names if not name.startswith(PREFIX)]
    if len(folders) > 1 or "" in folders:
        raise ValueError(
            f"judges is {','.join(names)!r}, expected one clap:FOLDER at most"
        )
    return others, folders[0] if folders else None


def open_clap(folder: str, rate_hz: int) -> ClapJudge:
    """Open a converted CLAP.

    Args:
      folder: of the converted weights and the tokenizer's files.
      rate_hz: of the waveforms to come.

    Raises:
      ValueError: another folder, another encoder, or a fused one.
      FileNotFoundError: no tokenizer's files.
      ModuleNotFoundError: tokenizers is missing.
    """
    record, params = load_encoder(folder)
    label = f"judges has {PREFIX + folder!r}"
    if record["architecture"] != "clap":
        raise ValueError(f"{label}, expected a CLAP, not {record['architecture']}")
    config = _config(record["config"])
    if config.audio.fused:
        raise ValueError(f"{label}, expected an unfused CLAP: long clips are averaged")
    length = min(TEXT_LENGTH, config.text.max_length)
    ears = _Ears(config, params, rate_hz, make_roberta_tokenizer(folder, length))
    credit = {
        "name": pathlib.Path(folder).name,
        "licence": record["licence"],
        "sha256": record["source"].get("sha256"),
        "layout": {name: entry["crc32"] for name, entry in record["layout"].items()},
    }
    return ClapJudge(ears.score, credit)


def _config(values: dict[str, Any]) -> ClapConfig:
    return ClapConfig(
        from_dict(ClapAudioConfig, values["audio"]),
        from_dict(ClapTextConfig, values["text"]),
        **{k: v for k, v in values.items() if k not in ("audio", "text")},
    )


class _Ears:
    """Both towers, with their weights on every device."""

    def __init__(
        self, config: ClapConfig, params: Any, rate_hz: int, tokenise: Any
    ) -> None:
        clap = make_clap(config)
        clip = make_clip_embedding(clap)

        @jax.jit
        def hear(params: Any, waves: Float[Array, "n t"]) -> Float[Array, "n d"]:
            heard = resample_sinc(waves, rate_hz, CLAP_RATE_HZ)
            return clip(params, quantise_int16(heard))

        self._hear = where_data_are(hear, params)
        self._read = functools.partial(jax.jit(clap.text), params)
        self._tokenise, self._dim = tokenise, clap.embed_dim
        self._words: dict[str, np.ndarray] = {}
        self._last: tuple[Any, jax.Array] | None = None

    def score(self, estimate: Float[Array, "b q k t"], batch: Batch) -> dict[str, Any]:
        """Return both cosines, in percent."""
        words = self._texts(batch.captions)
        if self._last is None or self._last[0] is not batch:
            self._last = batch, self._clips(batch.target)
        target = self._last[1]
        # One way of asking after the other: all at once would take q times the room.
        heard = jnp.stack(
            [self._clips(estimate[:, q]) for q in range(estimate.shape[1])], axis=1
        )
        return {
            "clap_text": _cosines(heard, jnp.asarray(words)),
            "clap_audio": _cosines(heard, target),
        }

    def _clips(self, waves: Float[Array, "b k t"]) -> Float[Array, "b k d"]:
        flat = self._hear(waves.reshape(-1, waves.shape[-1]))
        return flat.reshape(*waves.shape[:2], -1)

    def _texts(self, captions: Sequence[Sequence[str]]) -> np.ndarray:
        """Embed words, each caption by itself: beside others it might round anew."""
        for words in dict.fromkeys(w for row in captions for w in row):
            if words not in self._words and words:
                ids = self._tokenise([words])
                self._words[words] = np.asarray(self._read(ids)[0])
        # Nobody asks for a source without words, and nobody reads its score.
        self._words.setdefault("", np.zeros(self._dim, np.float32))
        return np.asarray([[self._words[w] for w in row] for row in captions])


def _cosines(
    heard: Float[Array, "b q k d"], wanted: Float[Array, "b k d"]
) -> Float[Array, "b q k"]:
    highest = jax.lax.Precision.HIGHEST
    return PERCENT * jnp.einsum("bqkd,bkd->bqk", heard, wanted, precision=highest)
