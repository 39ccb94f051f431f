r"""CLAP's published keys to our tree (`marssep_jax.encoders.clap`).

Two sources of one model: Hugging Face's names, with query, key and value apart, and
LAION's own .pt files, whose audio tower has them packed as ours are. LAION's keys
may start with ``module.``.
"""

from typing import Any

import jax

from marssep_jax.conversion.bert import (
    bert_rules,
    dense_rules,
    norm_rules,
    packed_rules,
)
from marssep_jax.conversion.rules import Rule
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.encoders.clap import ClapConfig, make_clap
from marssep_jax.encoders.clap.config import ClapAudioConfig, ClapTextConfig

# Pattern and target; \1 and \2 are its groups, so nothing else may capture.
_BLOCK = (r"layers\.(\d+)\.blocks\.(\d+)", r"audio/stage_\1_block_\2")
_MERGING = (r"layers\.(\d+)\.downsample", r"audio/merging_\1")


def _conv(pattern: str, target: str) -> list[Rule]:
    return [
        Rule(rf"{pattern}\.weight", f"{target}/kernel", "conv"),
        Rule(rf"{pattern}\.bias", f"{target}/bias"),
    ]


def _batch_norm(pattern: str, target: str) -> list[Rule]:
    return [
        *norm_rules(pattern, target),
        Rule(rf"{pattern}\.running_mean", f"{target}/mean"),
        Rule(rf"{pattern}\.running_var", f"{target}/var"),
        Rule(rf"{pattern}\.num_batches_tracked", ""),
    ]


def _patches(prefix: str) -> list[Rule]:
    """Return the rules of the patch embedding, whose names both sources share."""
    rules = [
        *_conv(rf"{prefix}\.proj", "audio/patches/proj"),
        *norm_rules(rf"{prefix}\.norm", "audio/patches/norm"),
        *_conv(rf"{prefix}\.mel_conv2d", "audio/patches/crop_proj"),
    ]
    # The global half starts with a pooling that has no weights.
    for name, first in (("local", 0), ("global", 1)):
        half = rf"{prefix}\.fusion_model\.{name}_att"
        target = f"audio/patches/fusion/{name}"
        rules += [
            *_conv(rf"{half}\.{first}", f"{target}/down"),
            *_batch_norm(rf"{half}\.{first + 1}", f"{target}/down_norm"),
            *_conv(rf"{half}\.{first + 3}", f"{target}/up"),
            *_batch_norm(rf"{half}\.{first + 4}", f"{target}/up_norm"),
        ]
    return rules


def _stages(prefix: str) -> list[Rule]:
    """Return the rules of what surrounds attention and MLP, shared as well."""
    merging = rf"{prefix}\.{_MERGING[0]}"
    return [
        *norm_rules(rf"{merging}\.norm", f"{_MERGING[1]}/norm"),
        Rule(
            rf"{merging}\.reduction\.weight",
            f"{_MERGING[1]}/reduction/kernel",
            "linear",
        ),
        *norm_rules(rf"{prefix}\.norm", "audio/norm"),
    ]


def _text(prefix: str) -> list[Rule]:
    """Return RoBERTa's rules, whose names both sources share."""
    return [
        *bert_rules(rf"{prefix}\.", "text/bert/"),
        *dense_rules(rf"{prefix}\.pooler\.dense", "text/pooler"),
    ]


def _heads(prefix: str, first: str, second: str) -> list[Rule]:
    rules = []
    for tower, letter in (("audio", "a"), ("text", "t")):
        rules += [
            *dense_rules(
                rf"{prefix}{tower}_projection\.{first}", f"{tower}_head/linear_1"
            ),
            *dense_rules(
                rf"{prefix}{tower}_projection\.{second}", f"{tower}_head/linear_2"
            ),
            Rule(rf"{prefix}logit_scale_{letter}", f"log_scale_{tower}"),
        ]
    return rules


def _hugging_face() -> tuple[Rule, ...]:
    audio = r"audio_model\.audio_encoder"
    block, target = rf"{audio}\.{_BLOCK[0]}", _BLOCK[1]
    inner = f"{target}/block"
    attention = rf"{block}\.attention"
    return (
        *_batch_norm(rf"{audio}\.batch_norm", "audio/batch_norm"),
        *_patches(rf"{audio}\.patch_embed"),
        *_stages(audio),
        Rule(
            rf"{attention}\.self\.relative_position_bias_table",
            f"{target}/relative_bias",
        ),
        Rule(rf"{attention}\.self\.relative_position_index", ""),
        *norm_rules(rf"{block}\.layernorm_before", f"{inner}/norm_1"),
        *packed_rules(rf"{attention}\.self", f"{inner}/attention/qkv"),
        *dense_rules(rf"{attention}\.output\.dense", f"{inner}/attention/out"),
        *norm_rules(rf"{block}\.layernorm_after", f"{inner}/norm_2"),
        *dense_rules(rf"{block}\.intermediate\.dense", f"{inner}/mlp/up"),
        *dense_rules(rf"{block}\.output\.dense", f"{inner}/mlp/down"),
        *_text("text_model"),
        *_heads("", "linear1", "linear2"),
    )


def _laion() -> tuple[Rule, ...]:
    prefix = r"(?:module\.)?"
    audio = rf"{prefix}audio_branch"
    block, target = rf"{audio}\.{_BLOCK[0]}", _BLOCK[1]
    inner = f"{target}/block"
    unused = (
        r"(?:spectrogram_extractor|logmel_extractor|tscam_conv|head)\..*",
        r".*\.attn_mask",
    )
    return (
        *_batch_norm(rf"{audio}\.bn0", "audio/batch_norm"),
        *_patches(rf"{audio}\.patch_embed"),
        *_stages(audio),
        Rule(
            rf"{block}\.attn\.relative_position_bias_table", f"{target}/relative_bias"
        ),
        Rule(rf"{block}\.attn\.relative_position_index", ""),
        *norm_rules(rf"{block}\.norm1", f"{inner}/norm_1"),
        *dense_rules(rf"{block}\.attn\.qkv", f"{inner}/attention/qkv"),
        *dense_rules(rf"{block}\.attn\.proj", f"{inner}/attention/out"),
        *norm_rules(rf"{block}\.norm2", f"{inner}/norm_2"),
        *dense_rules(rf"{block}\.mlp\.fc1", f"{inner}/mlp/up"),
        *dense_rules(rf"{block}\.mlp\.fc2", f"{inner}/mlp/down"),
        *_text(rf"{prefix}text_branch"),
        *_heads(prefix, "0", "2"),
        *(Rule(rf"{audio}\.{pattern}", "") for pattern in unused),
        Rule(rf"{prefix}(?:audio|text)_transform\..*", ""),
    )


HUGGING_FACE: tuple[Rule, ...] = _hugging_face()
"""Rules for the keys of a Hugging Face checkpoint."""

LAION: tuple[Rule, ...] = _laion()
"""Rules for the keys of the ``state_dict`` in one of LAION's .pt files."""


# The .pt files name no sizes: these widths of the patches are published.
LAION_DEPTHS = {96: (2, 2, 6, 2), 128: (2, 2, 12, 2)}
LAION_TEXT_EPS = 1e-5  # roberta-base's own
_LAION_PATCHES = "audio_branch.patch_embed.proj.weight"
_LAION_CROPS = "audio_branch.patch_embed.mel_conv2d.weight"


def _is_laion(source: TensorSource) -> bool:
    return any(_bare(key).startswith("audio_branch.") for key in source)


def _bare(key: str) -> str:
    return key.removeprefix("module.")


def configure(source: TensorSource) -> ClapConfig:
    """Read the sizes from ``config.json``, or tell LAION's files by their patches.

    Raises:
      ValueError: settings of another model, or patches of no published width.
    """
    if not _is_laion(source):
        return ClapConfig.from_published(source.settings())
    by_name = {_bare(key): source[key].shape for key in source}
    width = by_name.get(_LAION_PATCHES, (0,))[0]
    if width not in LAION_DEPTHS:
        raise ValueError(f"its patches are {width} wide, expected 96 or 128")
    audio = ClapAudioConfig(
        width=width, depths=LAION_DEPTHS[width], fused=_LAION_CROPS in by_name
    )
    return ClapConfig(audio, ClapTextConfig(eps=LAION_TEXT_EPS))


def shapes(config: ClapConfig) -> Any:
    """Return the shapes of our parameters."""
    return jax.eval_shape(make_clap(config).init, jax.random.key(0))


def rules(source: TensorSource) -> tuple[Rule, ...]:
    """Return the rules for the names that the file uses."""
    return LAION if _is_laion(source) else HUGGING_FACE
