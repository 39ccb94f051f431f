"""MiniLM's published keys to our tree (`marssep_jax.encoders.minilm`)."""

from typing import Any

import jax

from marssep_jax.conversion.bert import bert_rules
from marssep_jax.conversion.rules import Rule
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm

_PREFIX = r"(?:bert\.)?"

MINILM: tuple[Rule, ...] = (
    *bert_rules(_PREFIX, ""),
    # The mean over the words takes its place.
    Rule(rf"{_PREFIX}pooler\.dense\.(?:weight|bias)", ""),
)
"""Rules for the keys of a sentence encoder's ``model.safetensors``."""


def configure(source: TensorSource) -> MiniLmConfig:
    """Read the sizes from the ``config.json`` beside the weights.

    Raises:
      ValueError: settings of another model.
    """
    return MiniLmConfig.from_published(source.settings())


def shapes(config: MiniLmConfig) -> Any:
    """Return the shapes of our parameters."""
    return jax.eval_shape(make_minilm(config).init, jax.random.key(0))
