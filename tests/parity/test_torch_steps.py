"""The PyTorch steps that ours are timed against do the same work.

Losses, rewards and gradients agree on the same weights and on the same masks.
"""

import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.benchmarks import updates
from marssep_jax.advantages import group_advantage
from marssep_jax.config import EncoderConfig, FrontendConfig
from marssep_jax.conversion import omnisep
from marssep_jax.conversion.apply import apply_rules
from marssep_jax.encoders import make_encoder
from marssep_jax.features import make_frontend
from marssep_jax.listening import make_waveform_listener
from marssep_jax.models import make_separator
from marssep_jax.objectives import (
    analyse_scene,
    binary_mask_target,
    make_supervised_objective,
)
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.rollout import group_log_prob
from marssep_jax.state import create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.types import RewardContext, Rollout
from marssep_jax.update import make_supervised_update
from marssep_jax.update.policy_loss import Coefficients, Lesson, make_policy_loss
from tests.support.omnisep_keys import EMBED_DIM, NUM_CHANNELS, WIDTHS, checkpoint

torch = pytest.importorskip("torch")
torch_models = pytest.importorskip("experiments.benchmarks.torch_models")
theirs = pytest.importorskip("experiments.benchmarks.torch_training")

SEPARATOR = {"widths": WIDTHS, "num_channels": NUM_CHANNELS, "embed_dim": EMBED_DIM}
SIZES = updates.Sizes(
    FrontendConfig(num_samples=16_383, num_rows=128),
    omnisep.configure(checkpoint(**SEPARATOR, prefix="")),
    EncoderConfig(embed_dim=12, audio_widths=(8, 16, 24)),
    batch_size=2,
    rounds=1,
)
GROUP_SIZE = 3


@pytest.fixture(scope="module")
def batch():
    return updates.draw_batch(SIZES)


@pytest.fixture(scope="module")
def frontends():
    return make_frontend(SIZES.frontend), theirs.Frontend(SIZES.frontend)


@pytest.fixture(scope="module")
def encoders():
    """Our encoder closed over its parameters, and PyTorch's with the same."""
    encoder = make_encoder(SIZES.encoder, SIZES.frontend)
    params = encoder.init(jax.random.key(0))
    # Fresh scales and biases are ones and zeros: mixed up, nobody would notice.
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in pairs]
    params = jax.tree.unflatten(structure, noisy)
    other = torch_models.AudioEncoder(
        SIZES.encoder.audio_widths, SIZES.frontend.num_rows, SIZES.encoder.embed_dim
    )
    other.load_ours(jax.device_get(params))
    return partial(encoder.audio, params), other.eval()


def unmasked(spectrum):
    """Return proposals and masks of the grid's shape, inside (0, 1)."""
    draw = np.random.default_rng(0)
    shape = (2, 2, SIZES.frontend.num_rows, spectrum.shape[-1])
    values = draw.uniform(0.02, 0.98, (2 + GROUP_SIZE, *shape)).astype(np.float32)
    return values[0], values[1], values[2:]


def test_front_ends(frontends, batch):
    ours, other = frontends
    mixture = batch.target.sum(1)
    features = ours.analyse(mixture)
    spectrum = other.stft(torch.tensor(mixture))
    np.testing.assert_allclose(features.stft, spectrum, atol=1e-4)
    # Rounding of the sampler's grid, 2e-5 of a bin, on magnitudes up to 50.
    found = other.log_magnitude(spectrum)[0]
    np.testing.assert_allclose(features.grid_magnitude, found, atol=1e-3)
    _, mask, _ = unmasked(spectrum)
    found = other.unwarp(torch.tensor(mask[:, 0]))
    np.testing.assert_allclose(ours.from_grid(mask[:, 0]), found, atol=1e-4)
    np.testing.assert_allclose(other.istft(spectrum), mixture, atol=1e-5)


def test_supervised_step(frontends, batch):
    state = checkpoint(**SEPARATOR, prefix="")
    model = torch_models.Separator(**SEPARATOR).train()
    model.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    target, query = torch.tensor(batch.target), torch.tensor(batch.query)
    loss = theirs.supervised_loss(model, frontends[1], target, query)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)

    shapes = omnisep.shapes(SIZES.separator)
    tree = apply_rules(omnisep.rules(state), state, shapes).tree()
    separator, tx = make_separator(SIZES.separator), optax.sgd(0.0)
    update = make_supervised_update(
        separator.apply,
        frontends[0],
        make_supervised_objective(binary_mask_target),
        tx,
    )
    key = jax.random.key(0)
    started = create_state(key, tree["params"], tree["model_state"], tx)
    _, metrics = update(started, batch)
    np.testing.assert_allclose(metrics["supervised/loss"], loss.item(), rtol=1e-4)
    np.testing.assert_allclose(metrics["grad/norm"], norm.item(), rtol=1e-3)


def test_rewards(frontends, encoders, batch):
    hear, other = encoders
    frontend, torch_frontend = frontends
    scene = analyse_scene(frontend, batch.target)
    _, mask, _ = unmasked(scene.features.stft)
    anchor = hear(batch.target)
    context = RewardContext(anchor, batch.target, np.ones((2, 2), np.float32))
    estimate = make_waveform_listener(frontend, hear)(mask[:, :, None], scene.features)
    ours = cosine_reward()(estimate, context)[:, :, 0]

    target = torch.tensor(batch.target)
    with torch.no_grad():
        anchors = [theirs.hear(torch_frontend, other, target[:, k]) for k in range(2)]
        np.testing.assert_allclose(anchor, torch.stack(anchors, 1), atol=1e-4)
        mixture = torch_frontend.stft(target.sum(1))
        found = theirs.rewards(
            torch_frontend, other, torch.tensor(mask), mixture, anchors
        )
    np.testing.assert_allclose(ours, found, atol=1e-4)
    assert np.ptp(ours) > 1e-2  # of rewards that are all alike nothing is learnt


def test_policy_loss_and_its_gradient(frontends, batch):
    scene = analyse_scene(frontends[0], batch.target)
    proposal, old, masks = unmasked(scene.features.stft)
    logits = np.log(proposal) - np.log1p(-proposal)
    old = 0.7 * proposal + 0.3 * old  # some ratios are clipped, not all of them
    reward = np.random.default_rng(1).uniform(size=(GROUP_SIZE, 2, 2))
    reward = reward.astype(np.float32)

    policy, active = beta_policy(theirs.KAPPA), jnp.ones((2, 2))
    grouped = jnp.moveaxis(jnp.asarray(masks), 0, 2)
    by_group = jnp.moveaxis(jnp.asarray(reward), 0, -1)
    gain, _ = group_advantage().apply(by_group, active, None)
    log_prob_old = group_log_prob(policy, jnp.asarray(old), grouped)
    drawn = Rollout(grouped, log_prob_old, jnp.asarray(old), by_group, gain)
    lesson = Lesson(drawn, None, active, scene)
    coefficients = Coefficients(theirs.ENTROPY_COEF, theirs.KL_COEF, 0.0, 0.0)
    surrogate = clipped_surrogate(theirs.CLIP_EPS)
    loss_fn = make_policy_loss(policy, surrogate, coefficients, None)
    (ours, metrics), slope = jax.value_and_grad(
        lambda logits: loss_fn(lesson, logits), has_aux=True
    )(jnp.asarray(logits))
    assert 0.1 < metrics["policy/clip_fraction"] < 0.9

    variable = torch.tensor(logits, requires_grad=True)
    loss = theirs.policy_loss(
        torch.sigmoid(variable),
        theirs.beta(torch.tensor(old)),
        list(torch.tensor(masks)),
        torch.tensor(reward),
    )
    loss.backward()
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-4)
    scale = float(variable.grad.abs().max())
    np.testing.assert_allclose(slope, variable.grad, atol=1e-4 * scale)


def test_steps_run_and_move():
    from experiments.benchmarks.torch_steps import torch_steps

    steps = torch_steps(updates.TINY, updates.draw_batch(updates.TINY))
    for step in steps.values():
        losses = [step() for _ in range(2)]
        assert np.isfinite(losses).all()
        assert losses[0] != losses[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's, of complex numbers
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_compiled_steps_do_the_same(monkeypatch):
    from experiments.benchmarks import torch_steps as module

    monkeypatch.setattr(module, "_compile", lambda steps: None)
    sizes = updates.TINY
    batch = updates.draw_batch(sizes)
    ways = [module.torch_steps(sizes, batch, compiled=way) for way in (False, True)]
    for name in ways[0]:
        losses = []
        for steps in ways:
            torch.manual_seed(1)
            losses.append(steps[name]())
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
        ways[1][name]()
    # As many calls as come before those that are timed.
    assert module.WARM_CALLS == 2
    with torch.compiler.set_stance("fail_on_recompile"):
        for step in ways[1].values():
            assert np.isfinite(step())


def test_everything_is_on_the_device(monkeypatch):
    """PyTorch refuses to compute across devices, and this one needs no GPU."""
    from experiments.benchmarks import torch_steps as module

    seen = []

    def descend(model, optimiser, loss):
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        seen.append(loss.device.type)

    def heard(frontend, spectrum):
        shape = (len(spectrum), frontend.config.num_samples)
        return torch.zeros(shape, device=spectrum.device)

    monkeypatch.setattr(module, "descend", descend)
    # Neither is there for tensors without numbers.
    monkeypatch.setattr(theirs.Beta, "sample", lambda beta: beta.mean)
    monkeypatch.setattr(theirs.Frontend, "istft", heard)
    batch = updates.draw_batch(updates.TINY)
    for step in module.torch_steps(updates.TINY, batch, "meta").values():
        step()
    assert seen == ["meta", "meta"]
