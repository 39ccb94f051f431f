"""Names in a config become the parts of a policy update; a new idea is one more row."""

from collections.abc import Callable
from functools import partial

import jax

from experiments.build import Parts
from experiments.settings import Settings
from marssep_jax import advantages, estimators, rewards, surrogates
from marssep_jax.annealing import PolicyFn, annealed_policy
from marssep_jax.config import UpdateConfig
from marssep_jax.listening import (
    join_anchors,
    join_listeners,
    make_grid_listener,
    make_waveform_listener,
)
from marssep_jax.policy import make_mask_policy
from marssep_jax.replicas import rows_of_one_draw
from marssep_jax.types import (
    AdvantageFn,
    AnchorFn,
    ListenFn,
    MaskPolicy,
    MixtureBatch,
    Params,
    RewardFn,
    SurrogateFn,
)
from marssep_jax.update.probe import Hearing


def make_reward(config: UpdateConfig) -> RewardFn:
    """Build the reward, with its signal term where one is asked for."""
    table = {
        "cosine": rewards.cosine_reward,
        "contrastive": rewards.contrastive_reward,
        "softmax": rewards.softmax_reward,
        "si_sdr": rewards.si_sdr_reward,
    }
    reward = table[config.reward]()
    if not config.signal_coef:
        return reward
    signal = (config.signal_coef, rewards.si_sdr_reward())
    return rewards.weighted_sum({"meaning": (1.0, reward), "signal": signal})


def make_estimator(config: UpdateConfig) -> estimators.Estimator:
    """Build the way to the reward's gradient."""
    size = config.group_size
    table: dict[str, Callable[[int], estimators.Estimator]] = {
        "score": estimators.score_estimator,
        "antithetic": partial(estimators.score_estimator, antithetic=True),
        "control_variate": estimators.control_variate_estimator,
        "pathwise": estimators.pathwise_estimator,
        "hybrid": estimators.hybrid_estimator,
    }
    return table[config.estimator](size)


def make_advantage(config: UpdateConfig) -> AdvantageFn:
    """Build the advantage."""
    table: dict[str, Callable[[], AdvantageFn]] = {
        "group": advantages.group_advantage,
        "batch": advantages.batch_advantage,
        "leave_one_out": advantages.leave_one_out_advantage,
        "leave_pair_out": advantages.leave_pair_out_advantage,
        "centred": partial(advantages.leave_one_out_advantage, scaled=False),
        "moving_average": lambda: advantages.moving_average_advantage(
            config.baseline_decay
        ),
    }
    return table[config.advantage]()


def make_surrogate(config: UpdateConfig) -> SurrogateFn:
    """Build the objective of log-ratios."""
    table: dict[str, Callable[[], SurrogateFn]] = {
        level: partial(
            surrogates.clipped_surrogate,
            config.clip_eps,
            level,
            config.dual_clip or None,
        )
        for level in surrogates.RATIO_LEVELS
    }
    table["none"] = surrogates.policy_gradient
    return table[config.ratio_level]()


def make_listener(config: UpdateConfig, parts: Parts, params: Params) -> ListenFn:
    """Build what the reward's encoder hears, or several together.

    Args:
      config: the update's.
      parts: of `experiments.build.make_parts`.
      params: of encoder and pooling; under ``others`` those of further encoders.
    """
    listeners = {
        "waveform": lambda p: make_waveform_listener(
            parts.frontend, partial(parts.encoder.audio, p["encoder"])
        ),
        "grid": lambda p: make_grid_listener(
            parts.frontend, partial(parts.encoder.audio_from_grid, p["encoder"])
        ),
    }
    found = [listeners[config.reward_on](each) for each in _ensemble(params)]
    return found[0] if len(found) == 1 else join_listeners(found)


def make_anchor(parts: Parts, params: Params) -> AnchorFn:
    """Build z*: the target's own sound, its caption and its picture, fused.

    Captions and pictures come embedded by the first encoder; further ones know the
    target by its sound alone.
    """

    def make(each: Params, known: float) -> AnchorFn:
        def anchor(batch: MixtureBatch) -> jax.Array:
            heard = parts.encoder.audio(each["encoder"], batch.target)
            text, image = known * batch.text, known * batch.image
            return parts.fusion.apply(each["fusion"], heard, text, image)

        return anchor

    anchors = [make(each, float(not i)) for i, each in enumerate(_ensemble(params))]
    return anchors[0] if len(anchors) == 1 else join_anchors(anchors)


def _ensemble(params: Params) -> list[Params]:
    return [params, *params.get("others", ())]


def _sampler(settings: Settings) -> MaskPolicy:
    """Return the policy whose masks do not hang on the number of devices."""
    family = make_mask_policy(settings.policy)
    return rows_of_one_draw(family) if settings.parallelism == "pmap" else family


def make_policy(settings: Settings) -> MaskPolicy | PolicyFn:
    """Build the policy that a stage samples from, or that of each of its steps."""
    if not settings.policy.kappa_start:
        return _sampler(settings)
    annealed = annealed_policy(settings.policy, settings.training.num_steps)
    if settings.parallelism != "pmap":
        return annealed
    return lambda step: rows_of_one_draw(annealed(step))


def make_hearing(settings: Settings, parts: Parts, params: Params) -> Hearing:
    """Build what the expected reward of a config is made of, at the end of the run.

    Args:
      settings: the config.
      parts: of `experiments.build.make_parts`.
      params: of encoder and pooling.
    """
    return Hearing(
        parts.separator.apply,
        parts.frontend,
        _sampler(settings),
        make_listener(settings.rl, parts, params),
        make_anchor(parts, params),
        make_reward(settings.rl),
    )
