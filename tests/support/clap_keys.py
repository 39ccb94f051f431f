"""What published CLAP checkpoints hold: keys and shapes, written down by hand.

Independent of the conversion rules, which are tested with it.
"""

import re

import numpy as np

from tests.support.bert_keys import (
    attention_keys,
    bert_keys,
    dense_keys,
    norm_keys,
)

AUDIO, TEXT = "audio_model.audio_encoder", "text_model"


def _batch_norm(key, size):
    names = ("weight", "bias", "running_mean", "running_var")
    sizes = {f"{key}.{name}": (size,) for name in names}
    return sizes | {f"{key}.num_batches_tracked": ()}


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
    shapes |= norm_keys(f"{patch}.norm", config.width)
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
            shapes |= attention_keys(f"{block}.attention", width)
            shapes |= norm_keys(f"{block}.layernorm_before", width)
            shapes |= norm_keys(f"{block}.layernorm_after", width)
            hidden = config.mlp_ratio * width
            shapes |= dense_keys(f"{block}.intermediate.dense", width, hidden)
            shapes |= dense_keys(f"{block}.output.dense", hidden, width)
        if stage < len(config.depths) - 1:
            merging = f"{AUDIO}.layers.{stage}.downsample"
            shapes |= norm_keys(f"{merging}.norm", 4 * width)
            shapes[f"{merging}.reduction.weight"] = (2 * width, 4 * width)
    return shapes | norm_keys(f"{AUDIO}.norm", config.hidden_width)


def _text(config):
    words = f"{TEXT}.embeddings"
    return bert_keys(config, f"{TEXT}.") | {
        f"{words}.position_ids": (1, config.num_positions),
        f"{words}.token_type_ids": (1, config.num_positions),
    }


def hugging_face_shapes(config):
    """Return every key of a Hugging Face checkpoint with its shape."""
    shapes = {"logit_scale_a": (), "logit_scale_t": ()}
    shapes |= _audio(config.audio) | _text(config.text)
    widths = {"audio": config.audio.hidden_width, "text": config.text.width}
    for tower, width in widths.items():
        head = f"{tower}_projection"
        shapes |= dense_keys(f"{head}.linear1", width, config.embed_dim)
        shapes |= dense_keys(f"{head}.linear2", config.embed_dim, config.embed_dim)
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
