"""The charts and examples of a report: drawn inline, players as data URIs."""

import base64
import io
import wave
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from experiments import figures
from experiments.figures import Line, Rows
from experiments.report_tables import MODELS, QUERIES

PEAK = 0.89
"""Loudest sample in an example's players: one gain for all, so levels compare."""

# Title, what it means, metric key, axis, runs whose rows hold it.
PANELS = (
    (
        "Separation while learning",
        "Mask loss of the training batches",
        "supervised/loss",
        "step",
        ("supervised",),
    ),
    (
        "Validation",
        "SI-SDR gained, dB",
        "eval/si_sdri_db",
        "step",
        ("supervised",),
    ),
    (
        "After the supervised base",
        "SI-SDR gained on validation, dB",
        "eval/si_sdri_db",
        "wall_s",
        ("continued", "rl"),
    ),
    (
        "Held-out judge",
        "Score of a listener that the policy never hears",
        "eval/judge",
        "wall_s",
        ("continued", "rl"),
    ),
    ("Reward", "Mean over the sampled masks", "reward/mean", "step", ("rl",)),
    (
        "SI-SDR of sampled masks",
        "dB, with the noise of exploration",
        "reward/si_sdr_db",
        "step",
        ("rl",),
    ),
    (
        "Does the reward follow quality?",
        "Its correlation with SI-SDR within a group",
        "reward/corr_si_sdr",
        "step",
        ("rl",),
    ),
    (
        "Distance from the sampler",
        "KL to the old policy, per bin",
        "policy/kl_old",
        "step",
        ("rl",),
    ),
    (
        "Distance from the start",
        "KL to the supervised start, per bin",
        "policy/kl_ref",
        "step",
        ("rl",),
    ),
    (
        "Clip fraction",
        "Share of ratios that the clip holds",
        "policy/clip_fraction",
        "step",
        ("rl",),
    ),
    ("Entropy", "Per bin, nats", "policy/entropy", "step", ("rl",)),
)


def charts(curves: Mapping[str, Rows]) -> str:
    """Return the panels that the rows have points for, in a grid."""
    drawn = []
    for title, meaning, key, axis, runs in PANELS:
        lines = [Line(curves.get(run, ()), key, run, run) for run in runs]
        lines = [line for line in lines if len(figures.points(line, axis)[0]) > 1]
        svg = figures.line_chart(lines, axis, title)
        if svg:
            keys = "".join(
                f'<span class="key" style="--c:var(--{line.colour})">'
                f"{MODELS[line.label]}</span> "
                for line in lines
            )
            drawn.append(
                f"<figure><figcaption>{title}<small>{meaning}</small>"
                f"<small>{keys}</small></figcaption>{svg}</figure>"
            )
    if not drawn:
        return ""
    note = "<p>Strong lines are running means, faint ones the rows themselves.</p>"
    return f'{note}<div class="charts">{"".join(drawn)}</div>'


def example_card(example: Mapping[str, Any]) -> str:
    """Return one example: four pictures and a player for every sound."""
    rate, grid_hz = int(example["rate"]), np.asarray(example["grid_hz"], float)
    estimates = dict(example["estimates"])
    shown = estimates.get("text", next(iter(estimates.values())))
    columns = np.asarray(example["mask"]).shape[1]
    seconds = len(example["mixture"]) / rate
    loudest = figures.peak_magnitude(example["mixture"], rate, grid_hz)

    def level(name: str, waveform: np.ndarray) -> str:
        grid = figures.grid_level_db(waveform, rate, grid_hz, columns, loudest)
        return figures.spectrogram(grid, grid_hz, seconds, f"Spectrogram: {name}")

    panels = {
        "Mixture": level("mixture", example["mixture"]),
        "Mask": figures.mask_image(example["mask"], grid_hz, seconds, "Mask"),
        "Estimate": level("estimate", shown),
        "Target": level("target", example["target"]),
    }
    sounds = {"Mixture": example["mixture"], "Target": example["target"]} | {
        f"Asked by {str(QUERIES.get(kind, kind)).lower()}": waveform
        for kind, waveform in estimates.items()
    }
    gain = PEAK / max(1e-9, *(np.abs(s).max() for s in sounds.values()))
    drawn = "".join(
        f"<figure><figcaption>{n}</figcaption>{svg}</figure>"
        for n, svg in panels.items()
    )
    heard = "".join(
        f'<label>{escape(name)}<audio controls preload="none" '
        f'src="data:audio/wav;base64,{encode_wav(gain * sound, rate)}"></audio></label>'
        for name, sound in sounds.items()
    )
    return (
        f'<article class="example"><header><h3>{escape(example["title"])}</h3>'
        f'<span class="quiet">“{escape(example["query"])}”</span></header>'
        f'<div class="panels">{drawn}</div><div class="players">{heard}</div></article>'
    )


def encode_wav(waveform: np.ndarray, rate: int) -> str:
    """Return samples in [-1, 1] as a 16-bit wav file in base64."""
    samples = np.round(np.clip(waveform, -1.0, 1.0) * 32_767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return base64.b64encode(buffer.getvalue()).decode("ascii")
