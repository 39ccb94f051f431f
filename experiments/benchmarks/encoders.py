"""Our audio towers against the published ones, on the same weights and inputs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import references
from experiments.benchmarks.rows import NotMeasuredError, Row, compared_row
from experiments.benchmarks.suites import or_not_measured
from marssep_jax.conversion import clap, imagebind
from marssep_jax.conversion.apply import apply_rules
from marssep_jax.conversion.rules import Rule
from marssep_jax.encoders.clap import (
    HTSAT_TINY,
    ClapAudioConfig,
    ClapConfig,
    ClapTextConfig,
    make_clap,
)
from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind

NAMES = ("encoder.imagebind_audio_vs_torch", "encoder.clap_audio_vs_torch")

NUM_CLIPS = 6  # of 2 s: two recordings as ImageBind cuts them; of 10 s for CLAP
CLAP_FRAMES = 1_001
LARGEST_DIFFERENCE = 1e-4
ROUNDS = 5

# The towers that are not timed, as small as they go.
SMALL_WORDS = ClapTextConfig(
    vocab_size=97, width=24, num_layers=1, num_heads=3, mlp_width=40, num_positions=30
)
IMAGEBIND = ImageBindConfig(
    image_width=32,
    image_blocks=1,
    image_heads=2,
    text_width=32,
    text_blocks=1,
    text_heads=2,
)
SMALL_CLAP = ClapAudioConfig(
    width=16, depths=(1, 1), num_heads=(2, 2), picture_size=64, num_mel_bins=16
)


def measure(tiny: bool) -> list[Row]:
    """Embed clips of noise by both."""
    rows: list[Row] = []
    for name, part in zip(NAMES, (_imagebind, _clap), strict=True):
        rows += or_not_measured((name,), partial(part, tiny))
    return rows


def _imagebind(tiny: bool) -> list[Row]:
    device = references.torch_device()
    config = IMAGEBIND
    if tiny:
        config = dataclasses.replace(
            config, audio_width=32, audio_blocks=1, audio_heads=2, embed_dim=16
        )
    with references.open_shelf() as shelf:
        if missing := shelf.missing("imagebind", "einops", "ftfy"):
            raise NotMeasuredError(f"{', '.join(missing)} not installed")
        published = references.published_imagebind(shelf, config)
    state = references.numpy_state(published)
    heard = {key: value for key, value in state.items() if ".audio." in key}
    model = make_imagebind(config)
    params = _converted(imagebind.IMAGEBIND_RULES, heard, imagebind.shapes(config))
    mel = _noise(1 if tiny else NUM_CLIPS, config.mel_rows, config.mel_frames)
    import torch

    published.to(device)
    theirs = torch.tensor(mel[:, None, None], device=device)  # one clip a recording
    scale = 20.0  # of the published vectors; ours have unit length
    return _rows(
        NAMES[0],
        model.audio,
        params,
        mel,
        lambda: published({"audio": theirs})["audio"] / scale,
        f"imagebind-unofficial {references.version('imagebind-unofficial')}",
        device,
        tiny,
    )


def _clap(tiny: bool) -> list[Row]:
    device = references.torch_device()
    config = dataclasses.replace(HTSAT_TINY, text=SMALL_WORDS)
    if tiny:
        config = ClapConfig(SMALL_CLAP, SMALL_WORDS, embed_dim=16)
    published = references.published_clap(config)
    state = references.numpy_state(published)
    heard = {key: value for key, value in state.items() if key.startswith("audio_")}
    model = make_clap(config)
    params = _converted(clap.HUGGING_FACE, heard, clap.shapes(config))
    frames = 64 if tiny else CLAP_FRAMES
    mel = _noise(1 if tiny else NUM_CLIPS, frames, config.audio.num_mel_bins)
    import torch

    published.to(device)
    theirs = torch.tensor(mel[:, None], device=device)
    return _rows(
        NAMES[1],
        model.audio,
        params,
        mel,
        lambda: published.get_audio_features(theirs).pooler_output,
        f"transformers {references.version('transformers')}",
        device,
        tiny,
    )


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _converted(
    rules: Sequence[Rule], state: Mapping[str, np.ndarray], shapes: Any
) -> Any:
    """Convert the tower of sound alone."""
    wanted = {name: shapes[name] for name in ("audio", "audio_head")}
    return jax.device_put(apply_rules(rules, state, wanted).tree())


def _rows(
    name: str,
    embed: Callable[..., Any],
    params: Any,
    mel: np.ndarray,
    published: Callable[[], Any],
    credit: str,
    device: str,
    tiny: bool,
) -> list[Row]:
    """Time both, after a check that they compute the same."""
    import torch

    ours = jax.jit(embed)
    placed = jax.device_put(mel)

    def reference() -> Any:
        with torch.inference_mode():
            found = published()
        references.finish(device)
        return found

    with references.full_float32(device):
        found = reference().cpu().numpy()
        difference = float(np.abs(ours(params, placed) - found).max())
    credit = f"{credit}, PyTorch {references.version('torch')}"
    if device == "cuda":
        credit += f", {references.SAME_PRODUCTS}"
    row = compared_row(
        name,
        lambda: ours(params, placed),
        reference,
        credit,
        difference,
        largest=LARGEST_DIFFERENCE,
        rounds=1 if tiny else ROUNDS,
    )
    return [row]
