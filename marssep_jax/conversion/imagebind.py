"""Published keys of ImageBind (imagebind_huge.pth) and where their tensors go.

Of its seven modalities three are ours: what the file holds for depth, thermal and
IMU is known and left out.
"""

from marssep_jax.conversion.rules import Rule

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
