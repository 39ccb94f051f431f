"""Separate a recording, window by window: seconds of work a second of sound."""

import jax
import numpy as np

from experiments.benchmarks.rows import Row, ratio_row
from experiments.benchmarks.timing import Timing, alternate
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import FrontendConfig, SeparatorConfig, to_dict
from marssep_jax.inference import separate
from marssep_jax.models import make_separator
from marssep_jax.queries import Query

NAMES = ("separate.full_rtf", "separate.small_rtf")

# As experiments/configs/quickstart.py has them.
SMALL_FRONTEND = FrontendConfig(
    sample_rate_hz=11_025, num_samples=32_767, num_rows=128, average_rows=True
)
SMALL_SEPARATOR = SeparatorConfig(
    architecture="compact", embed_dim=96, num_channels=24, widths=(16, 32, 48, 64, 96)
)
TINY_SEPARATOR = SeparatorConfig(
    architecture="compact", embed_dim=8, num_channels=4, widths=(8, 8)
)


def random_bundle(frontend: FrontendConfig, separator: SeparatorConfig) -> ModelBundle:
    """Return a separator of random weights, on the device."""
    params, state = make_separator(separator).init(jax.random.key(0), frontend)
    config = {
        "frontend": to_dict(frontend),
        "separator": to_dict(separator),
        "encoder": None,
    }
    return ModelBundle(config, params, state, {}, None)


def measure(tiny: bool) -> list[Row]:
    """Separate noise at each model's own rate, in mono, windows and all."""
    models = {
        NAMES[0]: (FrontendConfig(), TINY_SEPARATOR if tiny else SeparatorConfig()),
        NAMES[1]: (SMALL_FRONTEND, TINY_SEPARATOR if tiny else SMALL_SEPARATOR),
    }
    rounds, seconds = (1, 4.0) if tiny else (5, 20.0)
    return [_row(name, *model, rounds, seconds) for name, model in models.items()]


def _row(
    name: str,
    frontend: FrontendConfig,
    separator: SeparatorConfig,
    rounds: int,
    seconds: float,
) -> Row:
    bundle = random_bundle(frontend, separator)
    rate_hz, dim = frontend.sample_rate_hz, separator.embed_dim
    draw = np.random.default_rng(0)
    mixture = 0.1 * draw.standard_normal(int(seconds * rate_hz)).astype(np.float32)
    query = Query(jax.random.normal(jax.random.key(1), (dim,)) / dim**0.5)
    jobs = {"ours": lambda: separate(bundle, mixture, rate_hz, query).estimate}
    ours = alternate(jobs, rounds)["ours"].over(seconds)
    real_time = Timing((1.0,) * rounds)
    return ratio_row(name, ours, "the sound's own length", real_time)
