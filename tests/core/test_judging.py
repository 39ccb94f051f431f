"""The held-out judge learns what its clips are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.config import FrontendConfig, JudgeConfig
from marssep_jax.encoders import make_judge
from marssep_jax.judging import ClipBatch, make_judge_update
from marssep_jax.state import create_state

pytestmark = pytest.mark.usefixtures("quick_compile")

FRONTEND = FrontendConfig(
    sample_rate_hz=8_000, num_samples=1_023, n_fft=256, hop=64, num_rows=32
)
TONES_HZ = (400.0, 900.0, 2_000.0)


def tones(seed, size=6):
    """One tone a clip, of random level and phase, over a little noise."""
    rng = np.random.default_rng(seed)
    label = np.arange(size) % len(TONES_HZ)
    time = np.arange(1_023) / 8_000
    phase = (
        2 * np.pi * (np.take(TONES_HZ, label)[:, None] * time + rng.random((size, 1)))
    )
    level = rng.uniform(0.05, 0.4, (size, 1))
    wave = level * (np.sin(phase) + 0.1 * rng.standard_normal((size, 1_023)))
    return ClipBatch(jnp.asarray(wave, jnp.float32), jnp.asarray(label, jnp.int32))


@pytest.fixture(scope="module")
def trained():
    """The judge, its start, 60 updates' metrics and the state they lead to."""
    judge, tx = make_judge(JudgeConfig(16, 8), FRONTEND, 3), optax.adam(0.05)
    params = judge.init(jax.random.key(0))
    state = create_state(jax.random.key(1), params, {}, tx)
    update, rows = make_judge_update(judge, tx), []
    for step in range(60):
        state, metrics = update(state, tones(step))
        rows.append(jax.tree.map(float, metrics))
    return jax.jit(judge.log_prob), params, rows, state


def test_first_metrics_are_those_of_the_start(trained):
    log_prob, params, rows, _ = trained
    batch = tones(0)
    scores = np.asarray(log_prob(params, batch.audio))
    label = np.asarray(batch.label)
    assert set(rows[0]) == {"judge/loss", "judge/accuracy"}
    expected = -scores[np.arange(6), label].mean()
    # The same sums in another program.
    np.testing.assert_allclose(rows[0]["judge/loss"], expected, rtol=1e-5)
    right = (scores.argmax(axis=1) == label).mean()
    assert rows[0]["judge/accuracy"] == pytest.approx(right)


def test_judge_learns_three_tones(trained):
    log_prob, _, rows, state = trained
    assert state.step == 60
    # Guessing costs log 3 = 1.1; less than 0.01 is left in practice.
    assert rows[0]["judge/loss"] > 0.7
    assert np.mean([row["judge/loss"] for row in rows[-5:]]) < 0.2
    assert all(row["judge/accuracy"] == 1 for row in rows[-5:])
    fresh = tones(99, size=12)
    scores = log_prob(state.params, fresh.audio)
    assert (np.argmax(scores, axis=1) == fresh.label).all()
