"""What published CLAP checkpoints hold: keys and shapes, written down by hand.

Independent of the conversion rules, which are tested with it.
"""

import re

import numpy as np

AUDIO, TEXT = "audio_model.audio_encoder", "text_model"


def _dense(key, size_in, size_out):
    return {f"{key}.weight": (size_out, size_in), f"{key}.bias": (size_out,)}


def _norm(key, size):
    return {f"{key}.weight": (size,), f"{key}.bias": (size,)}


def _batch_norm(key, size):
    names = ("weight", "bias", "running_mean", "running_var")
    sizes = {f"{key}.{name}": (size,) for name in names}
    return sizes | {f"{key}.num_batches_tracked": ()}


def _attention(key, width):
    shapes = {}
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        shapes |= _dense(f"{key}.{name}", width, width)
    return shapes


def _fusion(config, patch):
    width, size = config.width, config.patch_size
    hidden = width // config.fusion_reduction
    shapes = {
        f"{patch}.mel_conv2d.weight": (width, 1, size, 3 * size),
        f"{patch}.mel_conv2d.bias": (width,),
    }
    for half, first in (("local_att", 0), ("global_att", 1)):
        key = f"{patch}.fusion_model.{half}"
        for index, (size_in, size_out) in ((0, (width, hidden)), (3, (hidden, width))):
            conv = f"{key}.{first + index}"
            shapes[f"{conv}.weight"] = (size_out, size_in, 1, 1)
            shapes[f"{conv}.bias"] = (size_out,)
            shapes |= _batch_norm(f"{key}.{first + index + 1}", size_out)
    return shapes


def _audio(config):
    patch, size = f"{AUDIO}.patch_embed", config.patch_size
    shapes = _batch_norm(f"{AUDIO}.batch_norm", config.num_mel_bins)
    shapes[f"{patch}.proj.weight"] = (config.width, 1, size, size)
    shapes[f"{patch}.proj.bias"] = (config.width,)
    shapes |= _norm(f"{patch}.norm", config.width)
    if config.fused:
        shapes |= _fusion(config, patch)
    tokens, rows = config.window_size**2, (2 * config.window_size - 1) ** 2
    for stage, depth in enumerate(config.depths):
        width = config.width * 2**stage
        for index in range(depth):
            block = f"{AUDIO}.layers.{stage}.blocks.{index}"
            own = f"{block}.attention.self.relative_position"
            shapes[f"{own}_bias_table"] = (rows, config.num_heads[stage])
            shapes[f"{own}_index"] = (tokens, tokens)
            shapes |= _attention(f"{block}.attention", width)
            shapes |= _norm(f"{block}.layernorm_before", width)
            shapes |= _norm(f"{block}.layernorm_after", width)
            hidden = config.mlp_ratio * width
            shapes |= _dense(f"{block}.intermediate.dense", width, hidden)
            shapes |= _dense(f"{block}.output.dense", hidden, width)
        if stage < len(config.depths) - 1:
            merging = f"{AUDIO}.layers.{stage}.downsample"
            shapes |= _norm(f"{merging}.norm", 4 * width)
            shapes[f"{merging}.reduction.weight"] = (2 * width, 4 * width)
    return shapes | _norm(f"{AUDIO}.norm", config.hidden_width)


def _text(config):
    width, words = config.width, f"{TEXT}.embeddings"
    shapes = {
        f"{words}.word_embeddings.weight": (config.vocab_size, width),
        f"{words}.position_embeddings.weight": (config.num_positions, width),
        f"{words}.token_type_embeddings.weight": (1, width),
        f"{words}.position_ids": (1, config.num_positions),
        f"{words}.token_type_ids": (1, config.num_positions),
        **_norm(f"{words}.LayerNorm", width),
        **_dense(f"{TEXT}.pooler.dense", width, width),
    }
    for index in range(config.num_layers):
        layer = f"{TEXT}.encoder.layer.{index}"
        shapes |= _attention(f"{layer}.attention", width)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", width)
        shapes |= _dense(f"{layer}.intermediate.dense", width, config.mlp_width)
        shapes |= _dense(f"{layer}.output.dense", config.mlp_width, width)
        shapes |= _norm(f"{layer}.output.LayerNorm", width)
    return shapes


def hugging_face_shapes(config):
    """Return every key of a Hugging Face checkpoint with its shape."""
    shapes = {"logit_scale_a": (), "logit_scale_t": ()}
    shapes |= _audio(config.audio) | _text(config.text)
    widths = {"audio": config.audio.hidden_width, "text": config.text.width}
    for tower, width in widths.items():
        head = f"{tower}_projection"
        shapes |= _dense(f"{head}.linear1", width, config.embed_dim)
        shapes |= _dense(f"{head}.linear2", config.embed_dim, config.embed_dim)
    return shapes


_TO_LAION = (
    ("audio_model.audio_encoder.", "audio_branch."),
    ("text_model.", "text_branch."),
    ("_projection.linear1", "_projection.0"),
    ("_projection.linear2", "_projection.2"),
)
_TO_LAION_AUDIO = (
    (".batch_norm.", ".bn0."),
    (".layernorm_before", ".norm1"),
    (".layernorm_after", ".norm2"),
    (".intermediate.dense", ".mlp.fc1"),
    (".attention.output.dense", ".attn.proj"),
    (".output.dense", ".mlp.fc2"),
    (".attention.self.", ".attn."),
)


def to_laion(state, prefix=""):
    """Rename and pack a Hugging Face state as LAION's .pt files have it."""
    renamed = {}
    for key, value in state.items():
        for old, new in _TO_LAION:
            key = key.replace(old, new)
        if key.startswith("audio_branch."):
            for old, new in _TO_LAION_AUDIO:
                key = key.replace(old, new)
        renamed[key] = value
    packed = {}
    for key, value in renamed.items():
        place = re.fullmatch(r"(audio_branch\..*\.attn)\.(query|key|value)\.(\w+)", key)
        if place is None:
            packed[prefix + key] = value
        elif place[2] == "query":
            names = [f"{place[1]}.{n}.{place[3]}" for n in ("query", "key", "value")]
            rows = np.concatenate([renamed[name] for name in names])
            packed[f"{prefix}{place[1]}.qkv.{place[3]}"] = rows
    unused = {
        "audio_branch.layers.0.blocks.1.attn_mask": (64, 64, 64),
        "audio_branch.spectrogram_extractor.stft.conv_real.weight": (4, 1, 8),
        "audio_branch.logmel_extractor.melW": (4, 8),
        "audio_branch.tscam_conv.weight": (4, 8, 2, 3),
        "audio_branch.head.bias": (4,),
        "audio_transform.sequential.0.weight": (4, 4),
        "text_transform.sequential.3.bias": (4,),
    }
    extra = {prefix + key: np.zeros(shape) for key, shape in unused.items()}
    return packed | extra
