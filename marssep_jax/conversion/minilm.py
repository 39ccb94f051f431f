"""MiniLM's published keys to our tree (`marssep_jax.encoders.minilm`)."""

from marssep_jax.conversion.bert import bert_rules
from marssep_jax.conversion.rules import Rule

_PREFIX = r"(?:bert\.)?"

MINILM: tuple[Rule, ...] = (
    *bert_rules(_PREFIX, ""),
    # The mean over the words takes its place.
    Rule(rf"{_PREFIX}pooler\.dense\.(?:weight|bias)", ""),
)
"""Rules for the keys of a sentence encoder's ``model.safetensors``."""
