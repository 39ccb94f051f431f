"""The stages of the encoder's alignment: which losses, and which parts may learn.

The paper's three (method section 3): audio-text, audio-audio, audio-vision. The
later ones keep shares of the earlier losses against forgetting.
"""

import dataclasses

from marssep_jax.config import AlignmentLossConfig

AUDIO_TEXT_PARTS = ("audio", "audio_head", "text", "text_head", "log_temperature")
VISION_PARTS = ("image", "image_head", "audio_head", "log_temperature")
HEADS = ("audio_head", "text_head", "image_head", "log_temperature")
OWN_LOSSES = (
    ("audio_text",),
    ("audio_audio", "triplet", "consistency"),
    ("audio_vision", "vision_triplet"),
)
"""What each stage is for."""

WAVEFORMS_OF = {
    "audio_audio": ("positive",),
    "triplet": ("positive", "negative"),
    "vision_triplet": ("negative",),
}
"""What losses hear besides ``audio`` and ``view``."""


DEFAULT_LOSSES = AlignmentLossConfig()


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One alignment stage. Weights are by loss name; all values ours.

    ``earlier`` is how many of the paper's stages come before it.
    """

    name: str
    weights: tuple[tuple[str, float], ...]
    trainable: tuple[str, ...] = AUDIO_TEXT_PARTS
    margin: float = 0.2
    earlier: int = 0


def paper_stages(
    heads_only: bool,
    losses: AlignmentLossConfig = DEFAULT_LOSSES,
    *,
    with_second: bool = True,
) -> tuple[StageConfig, StageConfig, StageConfig]:
    """Return the three stages of the paper.

    Args:
      heads_only: train heads and temperature alone, as the paper does with a
        pretrained backbone. A small encoder starts from nothing, so its trunks
        must learn too: audio and text first, vision in the last stage.
      losses: weights, and how much of earlier stages is mixed into later ones.
      with_second: False if the second stage will not take place: the third then
        has nothing of it to keep.
    """
    text_in_second, text_in_third, audio_in_third = losses.mixing
    kept: tuple[dict[str, float], ...] = (
        {},
        {"audio_text": text_in_second},
        {"audio_text": text_in_third, "audio_audio": with_second * audio_in_third},
    )
    learn = (AUDIO_TEXT_PARTS, AUDIO_TEXT_PARTS, VISION_PARTS)
    first, second, third = (
        StageConfig(
            f"align-{number + 1}",
            _weights(losses, dict.fromkeys(OWN_LOSSES[number], 1.0) | kept[number]),
            HEADS if heads_only else learn[number],
            losses.margin,
            number,
        )
        for number in range(3)
    )
    return first, second, third


def joint_stage(
    heads_only: bool,
    losses: AlignmentLossConfig = DEFAULT_LOSSES,
) -> StageConfig:
    """Return the ablation: the losses of all stages at once."""
    names = [name for stage in OWN_LOSSES for name in stage]
    parts = tuple(dict.fromkeys((*AUDIO_TEXT_PARTS, *VISION_PARTS)))
    return StageConfig(
        "align-joint",
        _weights(losses, dict.fromkeys(names, 1.0)),
        HEADS if heads_only else parts,
        losses.margin,
    )


def waveforms_heard(stage: StageConfig) -> tuple[str, ...]:
    """Return the waveforms of an `AlignmentBatch` that a stage needs."""
    more = {name for loss, _ in stage.weights for name in WAVEFORMS_OF.get(loss, ())}
    return ("audio", "view", *sorted(more, reverse=True))


def _weights(
    losses: AlignmentLossConfig, shares: dict[str, float]
) -> tuple[tuple[str, float], ...]:
    """Weigh the losses of a stage, the pooling's last; what weighs nothing is out."""
    rows = [*shares.items(), ("pooling", 1.0)]
    weighed = [(name, share * getattr(losses, name)) for name, share in rows]
    return tuple((name, weight) for name, weight in weighed if weight)
