"""The keys of imagebind_huge.pth for sound, pictures and words, with their shapes."""

from experiments.benchmarks.references import IMAGEBIND_MODALITIES as MODALITIES


def published_shapes(config):
    """Return every key of the published layout for our modalities, with its shape."""
    a, v, t = config.audio_width, config.image_width, config.text_width
    rows, columns = config.audio_grid
    size, patch, d = config.audio_patch, config.image_patch, config.embed_dim
    pre = "modality_preprocessors."
    shapes = {
        f"{pre}audio.cls_token": (1, 1, a),
        f"{pre}audio.rgbt_stem.proj.weight": (a, 1, size, size),
        f"{pre}audio.rgbt_stem.norm_layer.weight": (a,),
        f"{pre}audio.rgbt_stem.norm_layer.bias": (a,),
        f"{pre}audio.pos_embedding_helper.pos_embed": (1, rows * columns + 1, a),
        f"{pre}vision.cls_token": (1, 1, v),
        f"{pre}vision.rgbt_stem.proj.1.weight": (v, 3, 2, patch, patch),
        f"{pre}vision.pos_embedding_helper.pos_embed": (1, config.image_grid**2 + 1, v),
        f"{pre}text.token_embedding.weight": (config.vocabulary, t),
        f"{pre}text.pos_embed": (1, config.text_length, t),
        f"{pre}text.mask": (config.text_length, config.text_length),
        "modality_trunks.vision.pre_transformer_layer.0.weight": (v,),
        "modality_trunks.vision.pre_transformer_layer.0.bias": (v,),
        "modality_postprocessors.text.1.log_logit_scale": (),
        "modality_postprocessors.audio.1.log_logit_scale": (),
    }
    for ours, theirs in MODALITIES.items():
        width = getattr(config, f"{ours}_width")
        for index in range(getattr(config, f"{ours}_blocks")):
            block = f"modality_trunks.{theirs}.blocks.{index}."
            for name, rows_out, columns_in in [
                ("attn.out_proj", width, width),
                ("mlp.fc1", 4 * width, width),
                ("mlp.fc2", width, 4 * width),
            ]:
                shapes[f"{block}{name}.weight"] = (rows_out, columns_in)
                shapes[f"{block}{name}.bias"] = (rows_out,)
            shapes[f"{block}attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{block}attn.in_proj_bias"] = (3 * width,)
            for norm in ("norm_1", "norm_2"):
                shapes |= {f"{block}{norm}.{x}": (width,) for x in ("weight", "bias")}
            if ours == "audio":
                shapes |= {f"{block}attn.bias_{x}": (1, 1, width) for x in "kv"}
        head = f"modality_heads.{theirs}." + ("proj." if ours == "text" else "")
        shapes |= {f"{head}0.{x}": (width,) for x in ("weight", "bias")}
        shapes[head + ("1" if ours == "text" else "2") + ".weight"] = (d, width)
    return shapes
