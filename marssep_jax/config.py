"""Frozen, hashable settings, one record per stage.

The origin of every default stands behind it: ``paper`` (MARS-Sep), ``omnisep``
(the base separator) or ``ours``. Values are checked when a record is made.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from marssep_jax.checks import at_least, check_type, one_of, positive, require, share

T = TypeVar("T")

ENCODERS = ("small", "imagebind")
TEXT_TOWERS = ("hashed", "minilm")
POOLINGS = ("mlbp", "mean", "max", "weighted", "text", "audio")
RATIO_LEVELS = ("bin", "mask", "joint", "none")
ADVANTAGES = (
    "group",
    "batch",
    "leave_one_out",
    "leave_pair_out",
    "centred",
    "moving_average",
)
ESTIMATORS = ("score", "antithetic", "control_variate", "pathwise", "hybrid")
REWARDS = ("cosine", "contrastive", "softmax", "si_sdr")
LISTENERS = ("waveform", "grid")
MASKS = ("mode", "mean", "sample")
"""Which mask of the policy separates once it is trained."""


@dataclass(frozen=True)
class FrontendConfig:
    """Signal front end: STFT and log-frequency grid."""

    sample_rate_hz: int = 16_000  # omnisep
    num_samples: int = 65_535  # omnisep: exactly 256 frames
    n_fft: int = 1024  # omnisep
    hop: int = 256  # omnisep
    num_rows: int = 256  # omnisep
    warp_base: float = 21.0  # omnisep: row j reads bin 25.6 (21^(j/255) - 1)
    average_rows: bool = False  # omnisep skips bins between rows; True averages
    log_floor: float = 1e-10  # omnisep

    def __post_init__(self) -> None:
        """Check the numbers."""
        positive(self, "sample_rate_hz", "n_fft", "num_rows", "log_floor")
        require(self.n_fft % 2 == 0, "n_fft", self.n_fft, "an even number")
        require(0 < self.hop <= self.n_fft, "hop", self.hop, "in (0, n_fft]")
        require(self.warp_base > 1, "warp_base", self.warp_base, "> 1")
        long_enough, expected = (
            self.num_samples >= self.n_fft,
            f">= n_fft = {self.n_fft}",
        )
        require(long_enough, "num_samples", self.num_samples, expected)

    @property
    def num_bins(self) -> int:
        """Number of STFT bins F."""
        return self.n_fft // 2 + 1

    @property
    def num_frames(self) -> int:
        """Number of STFT frames N of a clip of ``num_samples``."""
        return 1 + self.num_samples // self.hop


@dataclass(frozen=True)
class SeparatorConfig:
    """The query-gated U-Net."""

    architecture: str = "omnisep"  # or "compact"
    embed_dim: int = 1024  # omnisep: ImageBind
    num_channels: int = 32  # omnisep: gated output channels
    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512)  # omnisep

    def __post_init__(self) -> None:
        """Check the numbers."""
        one_of(self, "architecture", ("omnisep", "compact"))
        positive(self, "embed_dim", "num_channels", "widths")


@dataclass(frozen=True)
class EncoderConfig:
    """The small tri-modal encoder (ours), or published weights (paper: ImageBind).

    ``backbone`` is the folder of converted weights; widths and buckets are those of
    the small encoder's own trunks. Its words may instead go through a published
    sentence encoder, whose converted weights lie in ``text_backbone``.
    """

    architecture: str = "small"  # ours; paper: "imagebind"
    backbone: str = ""
    embed_dim: int = 96  # ours
    audio_widths: tuple[int, ...] = (32, 64, 96)  # ours
    image_widths: tuple[int, ...] = (24, 48, 96, 128)  # ours
    image_size: int = 48  # ours
    text_tower: str = "hashed"  # ours; or "minilm"
    text_backbone: str = ""
    text_length: int = 48  # ours: bytes, or pieces of words, kept of a caption
    text_buckets: int = 512  # ours: rows of the hashed n-gram table
    pooling: str = "mlbp"  # paper
    pooling_rank: int = 64  # ours: stated nowhere

    def __post_init__(self) -> None:
        """Check the numbers."""
        one_of(self, "architecture", ENCODERS)
        one_of(self, "pooling", POOLINGS)
        require(
            bool(self.backbone) == (self.architecture != "small"),
            "backbone",
            self.backbone,
            "the folder of converted weights, where architecture is not 'small'",
        )
        one_of(self, "text_tower", TEXT_TOWERS)
        require(
            bool(self.text_backbone) == (self.text_tower == "minilm"),
            "text_backbone",
            self.text_backbone,
            "the folder of a converted minilm, where text_tower is 'minilm'",
        )
        require(
            self.text_tower == "hashed" or self.architecture == "small",
            "text_tower",
            self.text_tower,
            f"'hashed' where architecture is {self.architecture!r}",
        )
        positive(self, "embed_dim", "audio_widths", "image_widths", "image_size")
        positive(self, "text_length", "text_buckets", "pooling_rank")


@dataclass(frozen=True)
class AlignmentLossConfig:
    """Weights of the alignment's losses (method section 3); all values ours.

    ``mixing`` is how much of earlier stages' losses stays: of the first in the
    second, of the first in the third, of the second in the third.
    """

    audio_text: float = 1.0
    audio_audio: float = 0.5
    triplet: float = 1.0
    consistency: float = 0.5
    audio_vision: float = 1.0
    vision_triplet: float = 0.5
    pooling: float = 1.0
    mixing: tuple[float, ...] = (0.5, 0.25, 0.5)
    margin: float = 0.2

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least(self, 0, *(entry.name for entry in dataclasses.fields(self)))
        require(len(self.mixing) == 3, "mixing", self.mixing, "three shares")


@dataclass(frozen=True)
class JudgeConfig:
    """The held-out classifier that no training stage sees (ours)."""

    num_rows: int = 64
    width: int = 96

    def __post_init__(self) -> None:
        """Check the numbers."""
        positive(self, "num_rows", "width")


@dataclass(frozen=True)
class PolicyConfig:
    """The factorised Beta mask policy (method section 1)."""

    family: str = "beta"  # paper; or "patch_beta"
    kappa: float = 9.0  # paper
    kappa_start: float = 0.0  # ours: where training begins; 0 begins at kappa
    noise_patch: tuple[int, int] = (1, 1)  # paper: (frequency rows, time columns)
    action_patch: tuple[int, int] = (8, 8)  # ours: only for "patch_beta"
    sampler: str = "table"  # ours; or "jax"

    def __post_init__(self) -> None:
        """Check the numbers."""
        positive(self, "kappa")
        at_least(self, 0, "kappa_start")
        one_of(self, "family", ("beta", "patch_beta"))
        one_of(self, "sampler", ("table", "jax"))
        for name in ("noise_patch", "action_patch"):
            require(len(getattr(self, name)) == 2, name, getattr(self, name), "a pair")
        at_least(self, 1, "noise_patch", "action_patch")


@dataclass(frozen=True)
class UpdateConfig:
    """The policy update (method sections 4 and 7)."""

    group_size: int = 6  # ours: stated nowhere
    ratio_level: str = "bin"  # ours
    clip_eps: float = 0.2  # paper
    advantage: str = "group"  # ours
    baseline_decay: float = 0.92  # paper
    entropy_coef: float = 0.1  # paper
    kl_old_coef: float = 0.01  # paper
    kl_ref_coef: float = 0.0  # ours
    supervised_coef: float = 0.0  # ours
    inner_epochs: int = 1  # paper
    old_refresh: int = 1  # paper: updates between two snapshots of the sampler
    reward: str = "cosine"  # paper
    reward_on: str = "waveform"  # paper; "grid" is the shortcut
    signal_coef: float = 0.0  # ours: weight of the si_sdr reward beside the other
    estimator: str = "score"  # paper
    stop_exploitation: bool = True  # ours: end when judge and SI-SDR fall for it
    gain_coef: float = 1.0  # ours: weight of surrogate and slope
    dual_clip: float = 0.0  # ours: 0 is none
    kl_target: float = 0.0  # ours: nats a bin that end the inner epochs; 0 never does

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least(self, 1, "group_size", "inner_epochs", "old_refresh")
        at_least(self, 0, "signal_coef", "gain_coef", "kl_target")
        bound = self.dual_clip
        require(bound == 0 or bound > 1, "dual_clip", bound, "0 or a number > 1")
        self._check_estimator()
        require(0 < self.clip_eps < 1, "clip_eps", self.clip_eps, "in (0, 1)")
        one_of(self, "ratio_level", RATIO_LEVELS)
        one_of(self, "advantage", ADVANTAGES)
        one_of(self, "reward", REWARDS)
        one_of(self, "reward_on", LISTENERS)
        share(self, "baseline_decay")
        at_least(self, 0, "entropy_coef", "kl_old_coef", "kl_ref_coef")
        at_least(self, 0, "supervised_coef")

    @property
    def needs_advantage(self) -> bool:
        """Return whether rewards become advantages, or only their derivative counts."""
        return self.estimator != "pathwise"

    def _check_estimator(self) -> None:
        one_of(self, "estimator", ESTIMATORS)
        asks = f"where estimator is {self.estimator!r}"
        if self.estimator == "antithetic":
            even = self.group_size >= 4 and self.group_size % 2 == 0
            expected = f"an even number >= 4 {asks}"
            require(even, "group_size", self.group_size, expected)
            fits = self.advantage == "leave_pair_out"
            require(fits, "advantage", self.advantage, f"'leave_pair_out' {asks}")
        if self.estimator in ("control_variate", "hybrid"):
            fits = self.advantage == "centred"
            require(fits, "advantage", self.advantage, f"'centred' {asks}")
            fits = self.ratio_level != "joint"
            require(fits, "ratio_level", self.ratio_level, f"a mean over bins {asks}")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a warm-up and a cosine end."""

    learning_rate: float = 2e-4  # paper
    weight_decay: float = 0.01  # paper
    clip_norm: float = 1.0  # paper, omnisep
    warmup_steps: int = 100  # ours: the paper has one of unstated length
    decay_steps: int = 0  # ours: 0 keeps the rate constant after warm-up
    final_fraction: float = 0.1  # omnisep

    def __post_init__(self) -> None:
        """Check the numbers."""
        positive(self, "learning_rate", "clip_norm")
        at_least(self, 0, "weight_decay", "warmup_steps", "decay_steps")
        share(self, "final_fraction")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a record as plain JSON-ready values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Build a record from plain values.

    Raises:
      ValueError: a key that the record does not have, or a bad value.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(
            f"unknown key {unknown[0]!r} for {kind.__name__}, expected one of "
            + ", ".join(sorted(fields))
        )
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for key, value in plain.items():
        check_type(key, value, fields[key].default)
    return kind(**plain)
