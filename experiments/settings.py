"""What a config file may say, as frozen records; light, so that --help is quick.

A config file returns `default_config()` with changes. Sections are records of
``marssep_jax.config`` and of this module. The policy update's section is called
``rl``: ``update`` is the name of a method of every ConfigDict.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_collections

from marssep_jax.checks import at_least, check_type, one_of, positive, require, share
from marssep_jax.config import (
    AlignmentLossConfig,
    EncoderConfig,
    FrontendConfig,
    JudgeConfig,
    OptimiserConfig,
    PolicyConfig,
    SeparatorConfig,
    UpdateConfig,
    from_dict,
    to_dict,
)

STAGES = ("supervised", "policy")
STRATEGIES = ("jit", "pmap")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class DataConfig:
    """Which recordings, and how mixtures are drawn from them."""

    dataset: str = "instruments"  # a name under data_dir, a folder, or "synthetic"
    data_dir: str = "data"
    split: str = "train"
    validation_split: str = "validation"
    num_validation: int = 96
    num_test: int = 48  # where no manifest was prepared
    num_ratios: int = 208  # test mixtures that SIR and SAR are computed for
    num_sources: int = 2
    num_absent: int = 0
    gain_db: float = 5.0
    eq_db: float = 4.0
    query_concentration: float = 0.5
    same_family_share: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least(self, 1, "num_test", "num_sources")
        at_least(self, 0, "num_validation", "num_ratios", "num_absent")
        at_least(self, 0, "gain_db", "eq_db")
        positive(self, "query_concentration")
        share(self, "same_family_share")


@dataclass(frozen=True)
class TrainingConfig:
    """How long, and what happens on the way; 0 switches off."""

    batch_size: int = 16
    num_steps: int = 1_000
    log_every: int = 50
    eval_every: int = 0
    save_every: int = 0
    keep_latest: int = 2  # checkpoints; the best by validation stays besides
    keep_every: int = 0  # and those of steps that are multiples of this
    max_skipped: int = 10  # updates in a row that were not finite end the run
    patience: int = 0  # evaluations without a better validation SI-SDRi
    max_wall_s: float = 0.0
    mask_target: str = "ratio"  # ours; omnisep: "binary"
    tensorboard: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least(self, 1, "batch_size", "num_steps", "keep_latest")
        at_least(self, 0, "log_every", "eval_every", "save_every", "patience")
        at_least(self, 0, "max_wall_s", "keep_every", "max_skipped")
        one_of(self, "mask_target", ("ratio", "binary"))


@dataclass(frozen=True)
class AlignConfig:
    """The encoder's three alignment stages (method section 3); values ours."""

    batch_size: int = 48
    num_steps: tuple[int, ...] = (300, 80, 280)  # of each stage
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    schedule: str = "progressive"  # paper; the ablation: "joint", all losses at once
    heads_only: bool = False  # paper: True, with a pretrained backbone
    cached_views: int = 4  # of each clip, where all trunks are frozen
    forgetting: float = 0.1  # share of its R@1 that an earlier stage may lose
    residue_share: float = 0.7  # clips that carry a residue of another sound
    residue_db: tuple[float, float] = (-24.0, -2.0)  # its level against the clip
    masked_share: float = 0.5  # most of a clip's grid that is turned down
    log_every: int = 50

    def __post_init__(self) -> None:
        """Check the numbers."""
        stages, expected = len(self.num_steps), "three numbers, one for each stage"
        require(stages == 3, "num_steps", self.num_steps, expected)
        at_least(self, 2, "batch_size")  # InfoNCE compares a clip with the others
        at_least(self, 2, "cached_views")  # a clip has another view
        one_of(self, "schedule", ("progressive", "joint"))
        at_least(self, 0, "num_steps", "log_every", "warmup_steps", "weight_decay")
        positive(self, "learning_rate")
        share(self, "residue_share", "masked_share", "forgetting")


@dataclass(frozen=True)
class JudgeTrainingConfig:
    """Training of the held-out judge; values ours."""

    split: str = "judge_train"
    batch_size: int = 64
    num_steps: int = 400
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    weight_decay: float = 1e-3
    residue_share: float = 0.5
    residue_db: tuple[float, float] = (-26.0, -4.0)
    log_every: int = 100

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least(self, 1, "batch_size", "num_steps")
        at_least(self, 0, "log_every", "warmup_steps", "weight_decay")
        positive(self, "learning_rate")
        share(self, "residue_share")


@dataclass(frozen=True)
class StartConfig:
    """Trained models to start from: folders of bundles or of finished runs.

    ``encoder`` gives the reward's encoder and pooling, and the judge; where it is
    empty they come from ``separator``, and where both are, the encoder is random.
    Queries are embedded by the encoder that the separator was trained with.
    ``query_encoder`` names another one; unless its parameters are the same, it is
    taken only with ``swap_query_encoder``. ``other_encoders`` are folders, with commas
    between them, of encoders built alike that listen for the reward as well.
    """

    encoder: str = ""
    other_encoders: str = ""
    separator: str = ""
    query_encoder: str = ""
    swap_query_encoder: bool = False


def _default_separator() -> SeparatorConfig:
    """Fit the published network to the small encoder's queries."""
    return SeparatorConfig(embed_dim=EncoderConfig().embed_dim)


@dataclass(frozen=True)
class Settings:
    """All of one training run.

    ``name`` is what its rows are called. ``precision`` is that of the separator's
    activations in training; parameters, policy, reward and metrics are float32.
    ``shard_params`` cuts large arrays of the state and of the reward over devices.
    """

    stage: str = "supervised"
    name: str = ""
    seed: int = 0
    precision: str = "float32"  # or "bfloat16"
    parallelism: str = "jit"  # or "pmap"
    shard_params: bool = False
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    separator: SeparatorConfig = field(default_factory=_default_separator)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rl: UpdateConfig = field(default_factory=UpdateConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    align_loss: AlignmentLossConfig = field(default_factory=AlignmentLossConfig)
    judge_training: JudgeTrainingConfig = field(default_factory=JudgeTrainingConfig)
    start: StartConfig = field(default_factory=StartConfig)

    def __post_init__(self) -> None:
        """Check what concerns several sections."""
        if not self.name:
            object.__setattr__(self, "name", self.stage)
        require(self.stage in STAGES, "config.stage", self.stage, " or ".join(STAGES))
        _check_devices(self)
        require(  # a trained separator may have the queries of another encoder
            bool(self.start.separator)
            or self.separator.embed_dim == self.encoder.embed_dim,
            "config.separator.embed_dim",
            self.separator.embed_dim,
            f"{self.encoder.embed_dim} as config.encoder has",
        )
        require(
            self.align.heads_only or self.encoder.architecture == "small",
            "config.align.heads_only",
            self.align.heads_only,
            f"True: the trunks of {self.encoder.architecture} are frozen",
        )
        require(
            self.stage == "supervised" or bool(self.start.separator),
            "config.start.separator",
            self.start.separator,
            "the supervised model that the policy stage starts from",
        )


def _check_devices(settings: Settings) -> None:
    """Check how a stage is laid out over devices."""
    one_of(settings, "precision", PRECISIONS)
    one_of(settings, "parallelism", STRATEGIES)
    check_type("config.shard_params", settings.shard_params, False)
    if settings.parallelism == "jit":
        return
    expected = "'jit' with config."
    value, name = settings.parallelism, "config.parallelism"
    require(not settings.shard_params, name, value, f"{expected}shard_params")
    scaled = settings.stage == "policy" and settings.rl.needs_advantage
    by_rows = not scaled or settings.rl.advantage != "batch"
    require(by_rows, name, value, f"{expected}rl.advantage = 'batch'")


SECTIONS: dict[str, Any] = {
    entry.name: entry.default_factory
    for entry in dataclasses.fields(Settings)
    if entry.default_factory is not dataclasses.MISSING
}
"""Section to the function that makes its defaults."""


def default_config() -> ml_collections.ConfigDict:
    """Return every setting with its default, locked against new names."""
    return ml_collections.ConfigDict(to_dict(Settings())).lock()


def resolve(config: Mapping[str, Any]) -> Settings:
    """Turn a config into records; what it leaves out keeps its default.

    Raises:
      ValueError: an unknown key, a value of the wrong type or out of range.
    """
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    fields = {entry.name for entry in dataclasses.fields(Settings)}
    if unknown := sorted(set(config) - fields):
        raise ValueError(
            f"config.{unknown[0]} is unknown, expected one of "
            + ", ".join(sorted(fields))
        )
    values = {
        name: _section(name, value) if name in SECTIONS else value
        for name, value in config.items()
    }
    return Settings(**values)


def _section(name: str, values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"config.{name} is {values!r}, expected a section of settings")
    default = SECTIONS[name]()
    known = {entry.name for entry in dataclasses.fields(default)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"config.{name}.{unknown[0]} is unknown, expected one of "
            + ", ".join(sorted(known))
        )
    try:
        return from_dict(type(default), to_dict(default) | dict(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config.{name}.{error}") from error
