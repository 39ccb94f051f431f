"""Published keys of ImageBind (imagebind_huge.pth) and where their tensors go.

Of its seven modalities three are ours: what the file holds for depth, thermal and
IMU is known and left out.
"""

import re
from typing import Any

import jax

from marssep_jax.conversion.rules import Rule
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind

# Their word for a picture is vision.
OURS = {"audio": "audio", "image": "vision", "text": "text"}


def _block_rules(ours: str, theirs: str) -> list[Rule]:
    key = rf"modality_trunks\.{theirs}\.blocks\.(\d+)\."
    block = rf"{ours}/blocks/block_\1/"
    rules = []
    for place, name, last in [
        (r"attn\.in_proj_", "attention/qkv", ""),
        (r"attn\.out_proj\.", "attention/out", ""),
        (r"mlp\.fc1\.", "mlp/up", ""),
        (r"mlp\.fc2\.", "mlp/down", ""),
    ]:
        rules.append(
            Rule(f"{key}{place}weight{last}", f"{block}{name}/kernel", "linear")
        )
        rules.append(Rule(f"{key}{place}bias{last}", f"{block}{name}/bias"))
    for name in ("norm_1", "norm_2"):
        rules += _norm(rf"{key}{name}\.", f"{block}{name}")
    return rules


def _norm(key: str, target: str) -> list[Rule]:
    return [
        Rule(f"{key}weight", f"{target}/scale"),
        Rule(f"{key}bias", f"{target}/bias"),
    ]


def _head_rules() -> list[Rule]:
    heads = {
        "audio": (r"modality_heads\.audio\.0\.", r"modality_heads\.audio\.2\."),
        "image": (r"modality_heads\.vision\.0\.", r"modality_heads\.vision\.2\."),
        "text": (
            r"modality_heads\.text\.proj\.0\.",
            r"modality_heads\.text\.proj\.1\.",
        ),
    }
    rules = []
    for ours, (norm, linear) in heads.items():
        rules += _norm(norm, f"{ours}_head/norm")
        rules.append(Rule(f"{linear}weight", f"{ours}_head/linear/kernel", "linear"))
    return rules


def _stem_rules() -> list[Rule]:
    audio = r"modality_preprocessors\.audio\."
    vision = r"modality_preprocessors\.vision\."
    text = r"modality_preprocessors\.text\."
    positions = r"pos_embedding_helper\.pos_embed"
    return [
        Rule(rf"{audio}cls_token", "audio/tokens/cls", "rows"),
        Rule(rf"{audio}{positions}", "audio/tokens/position", "rows"),
        Rule(rf"{audio}rgbt_stem\.proj\.weight", "audio/patches/kernel", "conv"),
        *_norm(rf"{audio}rgbt_stem\.norm_layer\.", "audio/patch_norm"),
        Rule(rf"{vision}cls_token", "image/tokens/cls", "rows"),
        Rule(rf"{vision}{positions}", "image/tokens/position", "rows"),
        Rule(rf"{vision}rgbt_stem\.proj\.1\.weight", "image/kernel", "conv"),
        *_norm(
            r"modality_trunks\.vision\.pre_transformer_layer\.0\.", "image/first_norm"
        ),
        Rule(rf"{text}token_embedding\.weight", "text/table"),
        Rule(rf"{text}pos_embed", "text/position", "rows"),
        Rule(rf"{text}mask", ""),  # causal: made anew
    ]


IMAGEBIND_RULES: tuple[Rule, ...] = (
    *_stem_rules(),
    *(rule for ours, theirs in OURS.items() for rule in _block_rules(ours, theirs)),
    *(
        Rule(
            rf"modality_trunks\.audio\.blocks\.(\d+)\.attn\.bias_{letter}",
            rf"audio/blocks/block_\1/attention/extra_{name}",
            "rows",
        )
        for letter, name in (("k", "key"), ("v", "value"))
    ),
    *_head_rules(),
    # Ours is what InfoNCE divides by, theirs what it multiplies with.
    Rule(
        r"modality_postprocessors\.text\.1\.log_logit_scale",
        "log_temperature",
        "negative",
    ),
    Rule(r"modality_postprocessors\.audio\.1\.log_logit_scale", ""),  # a constant
    Rule(r"modality_[a-z]+\.(depth|thermal|imu)\..*", ""),
)
"""Every key of the file, once."""


# Widths and depths are in the file, heads are not: all that is published has these.
HEAD_WIDTHS = {"audio": 64, "image": 80, "text": 64}


def configure(source: TensorSource) -> ImageBindConfig:
    """Read the sizes off the shapes; a ``config.json`` beside the file adds fields.

    Raises:
      ValueError: tensors that sizes are read from are missing or of another rank.
    """
    stems = {
        "audio": "modality_preprocessors.audio.cls_token",
        "image": "modality_preprocessors.vision.cls_token",
        "text": "modality_preprocessors.text.token_embedding.weight",
    }
    sizes: dict[str, Any] = {}
    for ours, theirs in OURS.items():
        width = _shape(source, stems[ours])[-1]
        block = re.compile(rf"modality_trunks\.{theirs}\.blocks\.(\d+)\.norm_1\.bias")
        sizes[f"{ours}_width"] = width
        sizes[f"{ours}_blocks"] = sum(1 for key in source if block.fullmatch(key))
        sizes[f"{ours}_heads"] = max(1, width // HEAD_WIDTHS[ours])
    sizes["embed_dim"] = _shape(source, "modality_heads.audio.2.weight")[0]
    sizes["vocabulary"] = _shape(source, stems["text"])[0]
    known = vars(ImageBindConfig())
    sizes |= {k: v for k, v in source.settings().items() if k in known}
    return ImageBindConfig(**sizes)


def _shape(source: TensorSource, key: str) -> tuple[int, ...]:
    if key not in source or source[key].ndim < 2:
        raise ValueError(f"it has no {key} of two or more dimensions")
    return source[key].shape


def shapes(config: ImageBindConfig) -> Any:
    """Return the shapes of our parameters."""
    return jax.eval_shape(make_imagebind(config).init, jax.random.key(0))
