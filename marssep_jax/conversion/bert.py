"""Published keys of BERT's family: RoBERTa inside CLAP, sentence encoders."""

from marssep_jax.conversion.rules import Rule


def dense_rules(
    pattern: str, target: str, part: tuple[int, int] = (0, 1)
) -> list[Rule]:
    """Return the rules of a linear layer with a bias."""
    return [
        Rule(rf"{pattern}\.weight", f"{target}/kernel", "linear", part),
        Rule(rf"{pattern}\.bias", f"{target}/bias", "same", part),
    ]


def norm_rules(pattern: str, target: str) -> list[Rule]:
    """Return the rules of a normalisation's scale and bias."""
    return [
        Rule(rf"{pattern}\.weight", f"{target}/scale"),
        Rule(rf"{pattern}\.bias", f"{target}/bias"),
    ]


def packed_rules(pattern: str, target: str) -> list[Rule]:
    """Return query, key and value side by side: our packed projection."""
    return [
        rule
        for index, name in enumerate(("query", "key", "value"))
        for rule in dense_rules(rf"{pattern}\.{name}", target, (index, 3))
    ]


def bert_rules(prefix: str, target: str) -> list[Rule]:
    r"""Return the rules of `marssep_jax.encoders.bert.Bert`.

    Args:
      prefix: pattern before ``embeddings`` and ``encoder``, without a group.
      target: what our paths start with, a slash at its end.
    """
    words = rf"{prefix}embeddings"
    layer, block = rf"{prefix}encoder\.layer\.(\d+)", rf"{target}block_\1"
    return [
        Rule(rf"{words}\.word_embeddings\.weight", f"{target}words"),
        Rule(rf"{words}\.position_embeddings\.weight", f"{target}positions"),
        Rule(rf"{words}\.token_type_embeddings\.weight", f"{target}segments"),
        *norm_rules(rf"{words}\.LayerNorm", f"{target}norm"),
        Rule(rf"{words}\.(?:position_ids|token_type_ids)", ""),
        *packed_rules(rf"{layer}\.attention\.self", f"{block}/attention/qkv"),
        *dense_rules(rf"{layer}\.attention\.output\.dense", f"{block}/attention/out"),
        *norm_rules(rf"{layer}\.attention\.output\.LayerNorm", f"{block}/norm_1"),
        *dense_rules(rf"{layer}\.intermediate\.dense", f"{block}/mlp/up"),
        *dense_rules(rf"{layer}\.output\.dense", f"{block}/mlp/down"),
        *norm_rules(rf"{layer}\.output\.LayerNorm", f"{block}/norm_2"),
    ]
