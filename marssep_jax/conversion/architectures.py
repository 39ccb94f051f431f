"""The architectures whose published weights can be converted, one row each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from marssep_jax.conversion import clap, imagebind, minilm, omnisep
from marssep_jax.conversion.rules import Rule
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.weights.packages import PackagedWeights
from marssep_jax.weights.store import save_encoder


class Architecture(NamedTuple):
    """What there is to know about one kind of published weights.

    Attributes:
      title: what it is, in words.
      licence: of the weights as they are published, not of our code.
      non_commercial: whether that licence forbids commercial use.
      configure: sizes, from the settings beside the weights
        (`TensorSource.settings`) or from the shapes of the tensors.
      shapes: the tree of ``jax.ShapeDtypeStruct`` of those sizes.
      rules: the rules for the names that the source uses.
      placeholders: files hold more than tensors; pass over what it is.
      save: writes the result; see `save_encoder`.
      beside: names of the tokenizer's files, copied where they lie beside the weights.
      package: an installable package that carries the weights.
    """

    title: str
    licence: str
    non_commercial: bool
    configure: Callable[[TensorSource], Any]
    shapes: Callable[[Any], Any]
    rules: Callable[[TensorSource], Sequence[Rule]]
    placeholders: bool = False
    save: Callable[..., dict[str, Any]] = save_encoder
    beside: tuple[str, ...] = ()
    package: PackagedWeights | None = None


ARCHITECTURES: dict[str, Architecture] = {
    "imagebind": Architecture(
        title="ImageBind",
        licence="CC BY-NC-SA 4.0",
        non_commercial=True,
        configure=imagebind.configure,
        shapes=imagebind.shapes,
        rules=lambda source: imagebind.IMAGEBIND_RULES,
    ),
    "clap": Architecture(
        title="LAION-CLAP",
        licence="CC0-1.0, as LAION-CLAP's repository says",
        non_commercial=False,
        configure=clap.configure,
        shapes=clap.shapes,
        rules=clap.rules,
        placeholders=True,  # LAION's files hold the state of the training too
        beside=("tokenizer.json", "vocab.json", "merges.txt"),
    ),
    "minilm": Architecture(
        title="all-MiniLM-L6-v2",
        licence="Apache-2.0",
        non_commercial=False,
        configure=minilm.configure,
        shapes=minilm.shapes,
        rules=lambda source: minilm.MINILM,
        beside=("tokenizer.json", "vocab.txt"),
        package=minilm.PACKAGE,
    ),
    "omnisep": Architecture(
        title="OmniSep's separator",
        # Its repository has no licence file; that of CLIPSep, whose network it is,
        # has MIT's. Weights are of whoever trained them.
        licence="not stated by OmniSep; ask whoever trained the weights",
        non_commercial=False,
        configure=omnisep.configure,
        shapes=omnisep.shapes,
        rules=omnisep.rules,
        save=omnisep.save_separator,
    ),
}


def find_architecture(name: str) -> Architecture:
    """Return a row of the table.

    Raises:
      ValueError: there is none of this name.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"encoder is {name!r}, expected one of {known}")
    return ARCHITECTURES[name]
