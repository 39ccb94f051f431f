"""How a config lays a stage out over devices."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import build
from experiments.configs import debug
from experiments.placing import needed, place_stage
from experiments.settings import resolve
from marssep_jax.config import to_dict
from marssep_jax.presets import PATHWISE
from marssep_jax.types import MixtureBatch

pytestmark = pytest.mark.usefixtures("quick_compile")


def settings_of(**changes):
    config = debug.get_config("policy")
    config.update(changes)
    return resolve(config)


def draw_batch(settings):
    draw, lead = np.random.default_rng(0), (8, 2)
    vectors = draw.standard_normal((3, *lead, settings.encoder.embed_dim))
    target = 0.1 * draw.standard_normal((*lead, settings.frontend.num_samples))
    arrays = (target, *vectors)
    return MixtureBatch(
        *(array.astype(np.float32) for array in arrays), np.zeros(lead, np.int32)
    )


@pytest.fixture(scope="module")
def models(quick_compile):
    settings = settings_of()
    parts = build.make_parts(settings)
    encoder = build.init_encoder(jax.random.key(1), parts, settings.encoder)
    return encoder, parts.separator.init(jax.random.key(0), settings.frontend)


@pytest.mark.parametrize(
    "changes",
    [{}, {"rl": to_dict(PATHWISE)}, {"policy": {"kappa_start": 2.0}}],
    ids=["score", "pathwise", "annealed"],
)
def test_a_config_chooses_the_strategy(models, changes):
    """One policy step by either: the same masks, hence the same rewards and loss."""
    found = {}
    for name in ("jit", "pmap"):
        settings = settings_of(parallelism=name, shard_params=name == "jit", **changes)
        parts = build.make_parts(settings)
        stage = place_stage(settings, parts, models[0], jax.random.key(2), models[1])
        _, metrics = stage.update(stage.state, draw_batch(settings))
        found[name] = {key: float(value) for key, value in metrics.items()}
    assert found["jit"].keys() == found["pmap"].keys()
    for name in ("policy/loss", "reward/mean", "reward/std_in_group", "grad/norm"):
        assert found["pmap"][name] == pytest.approx(found["jit"][name], rel=1e-4), name


def test_a_reward_needs_the_ear_alone(models):
    found = needed(settings_of(), models[0])
    assert set(found["encoder"]) == {"audio", "audio_head", "log_temperature"}
    supervised = resolve(debug.get_config("supervised"))
    assert needed(supervised, models[0]) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parallelism": "xmap"}, "parallelism is 'xmap', expected 'jit' or 'pmap'"),
        ({"precision": "float16"}, "precision is 'float16', expected 'float32' or 'b"),
        (
            {"parallelism": "pmap", "shard_params": True},
            "config.parallelism is 'pmap', expected 'jit' with config.shard_params",
        ),
    ],
)
def test_layouts_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        settings_of(**changes)


def test_pmap_sees_no_whole_batch():
    settings = settings_of()
    rl = dataclasses.replace(settings.rl, advantage="batch")
    with pytest.raises(ValueError, match="expected 'jit' with config"):
        dataclasses.replace(settings, rl=rl, parallelism="pmap")
    # Nothing is normalised where the reward's own derivative is all that counts.
    found = dataclasses.replace(settings, rl=PATHWISE, parallelism="pmap")
    assert found.rl.advantage == "batch"
