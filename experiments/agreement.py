"""How well the reward's shortcut on the grid agrees with the waveform's reward."""

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments import build, policy_parts
from experiments.datasets import OpenedData, open_banks, training_batches
from experiments.settings import Settings
from experiments.starts import load_start
from marssep_jax.bundle import ModelBundle
from marssep_jax.estimators import sample_group
from marssep_jax.objectives import analyse_scene
from marssep_jax.policy import make_mask_policy
from marssep_jax.rollout import listener_agreement
from marssep_jax.update.policy import reward_context

NUM_MASKS = 8
"""Masks a target: enough to rank them."""


def measure_agreement(
    settings: Settings, bundle: ModelBundle, data: OpenedData, num_batches: int = 4
) -> dict[str, float]:
    """Compare the two listeners on masks that a model's policy samples.

    Args:
      settings: of the policy stage; mixtures are drawn as there, from the
        validation split.
      bundle: the model.
      data: the data set.
      num_batches: batches of mixtures.

    Returns:
      ``listening/corr``, the mean correlation of the two rewards within a group,
      ``listening/abs_difference``, and either reward's mean.
    """
    parts = build.make_parts(settings)
    start = load_start(settings, parts)
    params = start.reward.params
    waveform, grid = (
        policy_parts.make_listener(
            dataclasses.replace(settings.rl, reward_on=way), parts, params
        )
        for way in ("waveform", "grid")
    )
    compare = listener_agreement(waveform, grid, policy_parts.make_reward(settings.rl))
    policy = make_mask_policy(settings.policy)
    anchor = policy_parts.make_anchor(parts, params)

    @jax.jit
    def measure(key: jax.Array, batch: Any) -> dict[str, jax.Array]:
        scene = analyse_scene(parts.frontend, batch.target)
        log_mag = scene.features.log_mag
        logits, _ = parts.separator.apply(
            bundle.separator_params, bundle.model_state, log_mag, batch.query
        )
        mask = sample_group(policy, key, jax.nn.sigmoid(logits), NUM_MASKS)
        return compare(mask, scene.features, reward_context(anchor, batch, scene))

    held_out = dataclasses.replace(settings.data, split=settings.data.validation_split)
    settings = dataclasses.replace(settings, data=held_out)
    banks = open_banks(settings, data, start)
    batches = training_batches(settings, data.catalogue, banks, 0)
    keys = jax.random.split(jax.random.key(settings.seed), num_batches)
    rows = [jax.device_get(measure(key, next(batches))) for key in keys]
    batches.close()
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
