"""Sizes of CLAP's two towers, as published or smaller."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marssep_jax.checks import require
from marssep_jax.encoders.bert import BERT_FIELDS, BertConfig
from marssep_jax.encoders.published_config import (
    read_fields,
    require_fixed,
    require_positive,
)


@dataclass(frozen=True)
class ClapAudioConfig:
    """HTSAT, a Swin transformer on a log-mel spectrogram folded to a square.

    Attributes:
      width: channels of the first stage; each later stage doubles them.
      depths: blocks of each stage; every second one has its windows shifted.
      num_heads: heads of each stage.
      fused: the variant that also sees three crops of clips over 10 s.
      num_mel_bins: rows of the spectrogram.
      picture_size: side of the square, in mel bins and in frames.
      patch_size: side of a patch.
      window_size: side of an attention window, in tokens.
      mlp_ratio: hidden width of a block's MLP over its own width.
      fusion_reduction: the fusion's bottleneck narrows the channels so often.
    """

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    fused: bool = False
    num_mel_bins: int = 64
    picture_size: int = 256
    patch_size: int = 4
    window_size: int = 8
    mlp_ratio: int = 4
    fusion_reduction: int = 4

    def __post_init__(self) -> None:
        """Check that stages, heads and windows divide what they share."""
        require_positive(self, may_be_zero=("fused",))
        require(
            len(self.num_heads) == len(self.depths),
            "num_heads",
            self.num_heads,
            f"one number for each of the stages {self.depths}",
        )
        for stage, heads in enumerate(self.num_heads):
            width = self.width * 2**stage
            require(
                width % heads == 0,
                f"num_heads[{stage}]",
                heads,
                f"a divisor of the stage's width {width}",
            )
        require(
            self.picture_size % self.num_mel_bins == 0,
            "num_mel_bins",
            self.num_mel_bins,
            f"a divisor of picture_size = {self.picture_size}",
        )
        step = self.patch_size * self.window_size * 2 ** (len(self.depths) - 1)
        require(
            self.picture_size % step == 0,
            "picture_size",
            self.picture_size,
            f"a multiple of {step}: whole windows in every stage",
        )

    @property
    def num_frames(self) -> int:
        """Frames that fill the square, 1024 as published."""
        return self.picture_size**2 // self.num_mel_bins

    @property
    def hidden_width(self) -> int:
        """Width of the vector before the projection, 768 as published."""
        return self.width * 2 ** (len(self.depths) - 1)


@dataclass(frozen=True)
class ClapTextConfig(BertConfig):
    """RoBERTa; the first ``pad_id + 1`` rows of its position table have no word.

    The two sources disagree about ``eps`` (roberta-base has 1e-5): take it from the
    checkpoint.
    """

    vocab_size: int = 50_265
    num_positions: int = 514
    num_segments: int = 1
    pad_id: int = 1

    def __post_init__(self) -> None:
        """Check the positions too."""
        super().__post_init__()
        require(
            self.max_length >= 1,
            "num_positions",
            self.num_positions,
            f"> pad_id + 1 = {self.pad_id + 1}",
        )

    @property
    def max_length(self) -> int:
        """Words that there are positions for, 512 as published."""
        return self.num_positions - self.pad_id - 1


@dataclass(frozen=True)
class ClapConfig:
    """Both towers and the dimension of the space they share."""

    audio: ClapAudioConfig = ClapAudioConfig()
    text: ClapTextConfig = ClapTextConfig()
    embed_dim: int = 512

    @classmethod
    def from_published(cls, config_json: Mapping[str, Any]) -> "ClapConfig":
        """Read the fields of a published ``config.json`` (``model_type`` clap).

        What the file leaves out has its published value.

        Raises:
          ValueError: another model, or a variant that is not implemented here.
        """
        kind = config_json.get("model_type", "clap")
        require(kind == "clap", "model_type", kind, "'clap'")
        audio = config_json.get("audio_config") or {}
        text = config_json.get("text_config") or {}
        require_fixed(audio, _FIXED_AUDIO, "audio_config.")
        require_fixed(text, _FIXED_TEXT, "text_config.")
        made = cls(
            read_fields(ClapAudioConfig, audio, _AUDIO_FIELDS, "audio_config."),
            read_fields(ClapTextConfig, text, BERT_FIELDS, "text_config."),
            config_json.get("projection_dim", cls.embed_dim),
        )
        width = audio.get("hidden_size", made.audio.hidden_width)
        require(
            width == made.audio.hidden_width,
            "audio_config.hidden_size",
            width,
            f"{made.audio.hidden_width}, the width of the last stage",
        )
        stride = audio.get("patch_stride", made.audio.patch_size)
        square = [made.audio.patch_size] * 2
        require(
            stride in (square, tuple(square), made.audio.patch_size),
            "audio_config.patch_stride",
            stride,
            f"{square}: patches that do not overlap",
        )
        return made


_AUDIO_FIELDS = {
    "patch_embeds_hidden_size": "width",
    "depths": "depths",
    "num_attention_heads": "num_heads",
    "enable_fusion": "fused",
    "num_mel_bins": "num_mel_bins",
    "spec_size": "picture_size",
    "patch_size": "patch_size",
    "window_size": "window_size",
    "mlp_ratio": "mlp_ratio",
    "aff_block_r": "fusion_reduction",
}
"""Published name to ours."""

_FIXED_AUDIO = {
    "hidden_act": "gelu",
    "projection_hidden_act": "relu",
    "qkv_bias": True,
    "enable_patch_layer_norm": True,
    "flatten_patch_embeds": True,
    "patch_embed_input_channels": 1,
    "layer_norm_eps": 1e-5,
}
_FIXED_TEXT = {
    "hidden_act": "gelu",
    "projection_hidden_act": "relu",
}
"""What every published checkpoint has, and what is therefore no setting of ours."""


HTSAT_TINY = ClapConfig()
"""clap-htsat-unfused."""

HTSAT_TINY_FUSED = ClapConfig(ClapAudioConfig(fused=True))
"""clap-htsat-fused."""

HTSAT_BASE = ClapConfig(ClapAudioConfig(width=128, depths=(2, 2, 12, 2)))
"""larger_clap_general, larger_clap_music, larger_clap_music_and_speech."""
