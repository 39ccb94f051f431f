"""What the names in a config become."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import build, policy_parts, updates
from experiments.settings import resolve
from marssep_jax import advantages, objectives, policy, surrogates
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import (
    ADVANTAGES,
    ESTIMATORS,
    LISTENERS,
    RATIO_LEVELS,
    REWARDS,
    FrontendConfig,
    OptimiserConfig,
    PolicyConfig,
    UpdateConfig,
    to_dict,
)
from marssep_jax.encoders import Encoder
from marssep_jax.features import make_frontend
from marssep_jax.types import Estimate, Features, MixtureBatch, RewardContext

FRONTEND = FrontendConfig(
    sample_rate_hz=8_000, num_samples=255, n_fft=64, hop=32, num_rows=8
)


# The first estimate is what was asked for, the second is the other target.
ANCHOR = np.eye(2, dtype=np.float32)[None]
HEARD = np.stack([ANCHOR[0], ANCHOR[0, ::-1]], axis=1)[None]
TARGET = np.asarray([[[1, -1, 1, -1], [1, 1, -1, -1]]], np.float32)
# 20 dB and 0 dB above an orthogonal error of equal power.
ERROR = np.asarray([[0.1], [1.0]], np.float32) * np.asarray([1, -1, -1, 1], np.float32)
WAVES = TARGET[:, :, None] + ERROR


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cosine", [1.0, 0.0]), ("contrastive", [1.0, -1.0]), ("si_sdr", [1.0, 0.0])],
)
def test_rewards(name, expected):
    context = RewardContext(ANCHOR, TARGET, np.ones((1, 2), np.float32))
    reward = policy_parts.make_reward(UpdateConfig(reward=name))
    found = jax.jit(reward)(Estimate(HEARD, WAVES), context)
    # float32; SI-SDR guards its logarithms.
    np.testing.assert_allclose(found, [[expected, expected]], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("group", advantages.group_advantage()),
        ("batch", advantages.batch_advantage()),
        ("leave_one_out", advantages.leave_one_out_advantage()),
        ("leave_pair_out", advantages.leave_pair_out_advantage()),
        ("centred", advantages.leave_one_out_advantage(scaled=False)),
        ("moving_average", advantages.moving_average_advantage(0.5)),
    ],
)
def test_advantages(name, expected):
    made = policy_parts.make_advantage(UpdateConfig(advantage=name, baseline_decay=0.5))
    reward = np.random.default_rng(0).random((2, 3, 4), np.float32)
    active = np.ones((2, 3), np.float32)
    found, state = jax.jit(made.apply)(reward, active, made.init())
    wanted, after = jax.jit(expected.apply)(reward, active, expected.init())
    np.testing.assert_array_equal(found, wanted)
    jax.tree.map(np.testing.assert_array_equal, state, after)


@pytest.mark.parametrize("level", [*surrogates.RATIO_LEVELS, "none"])
def test_ratio_levels(level):
    made = policy_parts.make_surrogate(UpdateConfig(ratio_level=level, clip_eps=0.3))
    expected = surrogates.policy_gradient()
    if level != "none":
        expected = surrogates.clipped_surrogate(0.3, level)
    generator = np.random.default_rng(0)
    log_ratio = generator.standard_normal((2, 2, 3, 4, 4), np.float32)
    advantage = generator.standard_normal((2, 2, 3), np.float32)
    found, monitors = jax.jit(made)(log_ratio, advantage)
    wanted, _ = jax.jit(expected)(log_ratio, advantage)
    assert found == wanted
    assert np.isfinite(list(monitors.values())).all()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (PolicyConfig(kappa=5.0), (policy.beta_policy, 5.0)),
        (PolicyConfig(sampler="jax"), (policy.beta_policy, 9.0, (1, 1), "jax")),
        (PolicyConfig(noise_patch=(4, 2)), (policy.beta_policy, 9.0, (4, 2))),
        (
            PolicyConfig("patch_beta", 5.0, action_patch=(4, 2)),
            (policy.patch_beta_policy, 5.0, (4, 2)),
        ),
    ],
)
def test_policy_families(config, expected):
    make, *arguments = expected
    proposal = np.linspace(0.1, 0.9, 32, dtype=np.float32).reshape(8, 4)
    seen = []
    for made in (policy.make_mask_policy(config), make(*arguments)):
        mask = jax.jit(made.sample)(jax.random.key(1), proposal)
        seen.append((mask, jax.jit(made.log_prob)(proposal, mask)))
    jax.tree.map(np.testing.assert_array_equal, *seen)
    assert seen[0][1].shape == proposal.shape


@pytest.mark.parametrize("name", ["ratio", "binary"])
def test_mask_targets(name):
    """Perfect logits leave next to no error; wrong ones leave a whole one."""
    magnitude = np.asarray([[[[1, 0]], [[0, 1]]]], np.float32)  # b k h w
    mixture = np.ones((1, 1, 2), np.float32)
    scene = objectives.Scene(Features(mixture, mixture, mixture), magnitude)
    objective = jax.jit(build.make_objective(name))
    for sign, error in ((1.0, 0.0), (-1.0, 1.0)):
        loss, metrics = objective(sign * 50 * (2 * magnitude - 1), scene)
        np.testing.assert_allclose(metrics["supervised/mask_error"], error, atol=1e-6)
        assert loss == metrics["supervised/loss"]


def total(axes, params, values):
    """Stand for an encoder: one number, the sum over the signal's axes."""
    return params["scale"] * jnp.sum(values, axis=axes)[..., None]


ENCODER = Encoder(
    None, partial(total, -1), partial(total, (-2, -1)), None, None, 1, {}, {}
)
PARTS = build.Parts(make_frontend(FRONTEND), None, ENCODER, None)
PARAMS = {"encoder": {"scale": jnp.asarray(2.0)}, "fusion": {}}


def test_listeners():
    waveform = np.random.default_rng(0).standard_normal((1, 255), np.float32)
    features = jax.jit(PARTS.frontend.analyse)(waveform)
    mask = np.ones((1, 2, 3, 8, 8), np.float32)
    listen = policy_parts.make_listener(UpdateConfig(), PARTS, PARAMS)
    heard = jax.jit(listen)(mask, features)
    assert heard.waveform.shape == (1, 2, 3, 255)
    # A mask of ones leaves the mixture; the encoder sums it up, twice.
    expected = np.full((1, 2, 3, 1), 2 * float(waveform.sum()))
    np.testing.assert_allclose(heard.embedding, expected, rtol=1e-3)
    listen = policy_parts.make_listener(UpdateConfig(reward_on="grid"), PARTS, PARAMS)
    heard = jax.jit(listen)(mask, features)
    assert heard.waveform is None
    expected = np.full((1, 2, 3, 1), 2 * float(features.log_mag.sum()))
    np.testing.assert_allclose(heard.embedding, expected, rtol=1e-5)


def test_anchor_is_of_the_target_its_words_and_its_picture():
    fusion = SimpleNamespace(apply=lambda params, *values: sum(values) + params["bias"])
    parts = PARTS._replace(fusion=fusion)
    anchor = policy_parts.make_anchor(parts, PARAMS | {"fusion": {"bias": 100.0}})
    one = jnp.ones((1, 1, 1))
    batch = MixtureBatch(jnp.ones((1, 1, 5)), 7 * one, 20 * one, 3 * one, None)
    np.testing.assert_allclose(anchor(batch), [[[100 + 2 * 5 + 20 + 3]]])


def rates(tx, steps):
    """Return the learning rates: Adam follows a constant gradient by just that."""
    params = jnp.zeros(())
    state, found, update = tx.init(params), [], jax.jit(tx.update)
    for _ in range(steps):
        change, state = update(jnp.ones(()), state, params)
        found.append(-float(change))
    return found


def test_learning_rate_rises_and_falls():
    config = OptimiserConfig(
        0.5, weight_decay=0.0, warmup_steps=2, decay_steps=4, final_fraction=0.2
    )
    # After warm-up 0.5 (0.2 + 0.8 (1 + cos(pi n / 4)) / 2) for n = 0, 1, 2, ...
    cosine = [0.2 + 0.4 * (1 + np.cos(np.pi * n / 4)) for n in range(5)]
    expected = 0.5 * np.asarray([0.0, 0.5, *cosine, 0.2, 0.2])
    tx = build.make_optimiser(config)
    np.testing.assert_allclose(rates(tx, 9), expected, rtol=1e-4, atol=1e-7)


def test_learning_rate_counts_updates_not_epochs():
    config = OptimiserConfig(
        0.5, weight_decay=0.0, warmup_steps=2, decay_steps=4, final_fraction=0.2
    )
    once = rates(build.make_optimiser(config), 9)
    thrice = rates(build.make_optimiser(config, 3), 27)
    np.testing.assert_allclose(thrice[::3], once, rtol=1e-4, atol=1e-7)


def test_learning_rate_without_warm_up_and_decay():
    config = OptimiserConfig(0.5, weight_decay=0.0, warmup_steps=0)
    np.testing.assert_allclose(rates(build.make_optimiser(config), 4), 0.5, rtol=1e-4)
    config = dataclasses.replace(config, decay_steps=2, final_fraction=0.0)
    found = rates(build.make_optimiser(config), 4)
    np.testing.assert_allclose(found, [0.5, 0.25, 0, 0], rtol=1e-4, atol=1e-7)


def test_optimiser_clips_and_decays():
    config = OptimiserConfig(0.5, weight_decay=0.1, clip_norm=1.0, warmup_steps=0)
    tx = build.make_optimiser(config)
    params = jnp.asarray([3.0, 4.0])
    gradient = jnp.asarray([1e6, 0.0])
    first, state = jax.jit(tx.update)(gradient, tx.init(params), params)
    # A step of the rate along the gradient, and 0.5 x 0.1 of the weights.
    np.testing.assert_allclose(first, [-0.5 - 0.15, -0.2], rtol=1e-4)
    moments = optax.tree_utils.tree_get(state, "mu")
    np.testing.assert_allclose(moments, [0.1, 0.0], rtol=1e-6)  # (1 - 0.9) x 1


def settings(stage="policy", **rl):
    start = {"separator": "x"} if stage == "policy" else {}
    return resolve({"stage": stage, "rl": rl, "start": start})


def test_policy_stage_tells_the_optimiser_of_its_epochs(monkeypatch):
    seen = []
    original = updates.make_optimiser

    def spy(config, steps_per_update=1):
        seen.append(steps_per_update)
        return original(config, steps_per_update)

    monkeypatch.setattr(updates, "make_optimiser", spy)
    parts = PARTS._replace(separator=SimpleNamespace(apply=None))
    updates.make_stage(settings(inner_epochs=3), parts, PARAMS)
    updates.make_stage(settings("supervised", inner_epochs=3), parts, PARAMS)
    assert seen == [3, 1]


def test_states_that_stages_start_with():
    parts = PARTS._replace(separator=SimpleNamespace(apply=None))
    params = {"w": jnp.ones(2)}
    key = jax.random.key(0)
    plain = updates.make_stage(settings("supervised"), parts, PARAMS)
    state = plain.start(key, params, {})
    assert (state.old_params, state.ref_params) == (None, None)
    fresh = updates.make_stage(settings(), parts, PARAMS)
    state = fresh.start(key, params, {})
    assert state.old_params is None
    np.testing.assert_array_equal(state.ref_params["w"], params["w"])
    lagging = updates.make_stage(settings(old_refresh=4), parts, PARAMS)
    state = lagging.start(key, params, {})
    np.testing.assert_array_equal(state.old_params["w"], params["w"])
    moving = updates.make_stage(settings(advantage="moving_average"), parts, PARAMS)
    assert moving.start(key, params, {}).advantage_state is not None


NEEDS = {
    "antithetic": {"advantage": "leave_pair_out"},
    "control_variate": {"advantage": "centred"},
    "hybrid": {"advantage": "centred"},
}
"""What an estimator asks of the other settings."""


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("estimator", ESTIMATORS),
        ("reward", REWARDS),
        ("advantage", ADVANTAGES),
        ("ratio_level", RATIO_LEVELS),
        ("reward_on", LISTENERS),
    ],
)
def test_every_name_that_settings_allow_has_a_function(name, values):
    parts = PARTS._replace(separator=SimpleNamespace(apply=None))
    for value in values:
        updates.make_stage(
            settings(**{name: value, **NEEDS.get(value, {})}), parts, PARAMS
        )


@pytest.mark.parametrize("name", ["antithetic", "control_variate", "hybrid"])
def test_an_estimator_refuses_an_advantage_that_would_bias_it(name):
    asked = NEEDS[name]["advantage"]
    message = f"advantage is 'group', expected '{asked}' where estimator is '{name}'"
    with pytest.raises(ValueError, match=message):
        UpdateConfig(estimator=name)


def test_an_estimator_refuses_groups_and_ratios_it_cannot_use():
    with pytest.raises(ValueError, match="group_size is 5, expected an even number"):
        UpdateConfig(estimator="antithetic", group_size=5)
    with pytest.raises(ValueError, match="ratio_level is 'joint', expected a mean"):
        UpdateConfig(estimator="hybrid", advantage="centred", ratio_level="joint")


def test_a_signal_term_adds_to_the_reward():
    context = RewardContext(ANCHOR, TARGET, np.ones((1, 2), np.float32))
    reward = policy_parts.make_reward(UpdateConfig(reward="cosine", signal_coef=0.5))
    # 20 dB and 0 dB, 0.05 a dB.
    found = jax.jit(reward)(Estimate(HEARD, WAVES), context)
    np.testing.assert_allclose(found, [[[1.5, 0.0]] * 2], atol=1e-5)


def trained(**changes):
    """Return a bundle of the default settings, with changes."""
    config = {
        name: build._listed(to_dict(getattr(resolve({}), name)))
        for name in ("frontend", "separator", "encoder")
    }
    for name, section in changes.items():
        config[name] = config[name] | section
    return ModelBundle(config, None, None, None, None)


def test_a_start_must_be_built_as_the_config_says():
    here = resolve({})
    parts = ("frontend", "separator", "encoder")
    build.require_same(here, trained(), "separator", parts)
    other = trained(separator={"num_channels": 8, "widths": [8, 16]})
    with pytest.raises(ValueError, match="expected") as caught:
        build.require_same(here, other, "separator", parts)
    assert str(caught.value) == (
        "config.separator.num_channels is 32, expected 8 as config.start.separator "
        "was trained with"
    )
    build.require_same(here, other, "encoder", ("frontend", "encoder"))
    older = trained()
    del older.config["encoder"]["text_tower"]
    build.require_same(here, older, "encoder", parts)
    absent = trained()
    del absent.config["encoder"]
    with pytest.raises(ValueError, match=r"config\.encoder is .*start\.encoder was"):
        build.require_same(here, absent, "encoder", parts)
