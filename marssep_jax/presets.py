"""Named settings of the policy update (method section 7).

``PAPER`` is what the paper's numbers amount to: one sample a target, a moving
average of the reward as baseline, one gradient step per sample. At that one step
the ratio is 1 and the KL to the sampler 0, so neither clip nor KL ever acts: it
is REINFORCE with an entropy bonus. In ``TRUST_REGION`` they do act: a group of
samples, several steps per group, and a leash to the supervised start.
``policy/clip_fraction`` tells the two apart in a running experiment.

``PATHWISE`` is the one to start with: the reward is a network that is at hand, so its
derivative goes through the sampled mask and the inverse STFT, and nothing has to be
guessed from rewards. What the estimate should mean and what it should sound like are
one reward; the supervised loss stays beside it. `experiments/RL.md` has what it does.
"""

from marssep_jax.config import UpdateConfig

PAPER = UpdateConfig(
    group_size=1,
    ratio_level="bin",
    advantage="moving_average",
    baseline_decay=0.92,
    clip_eps=0.2,
    entropy_coef=0.1,
    kl_old_coef=0.01,
    inner_epochs=1,
    old_refresh=1,
    reward="cosine",
    reward_on="waveform",
)

TRUST_REGION = UpdateConfig(
    group_size=6,
    ratio_level="bin",
    advantage="group",
    clip_eps=0.2,
    entropy_coef=0.0,
    kl_old_coef=0.01,
    kl_ref_coef=0.1,
    inner_epochs=4,
    old_refresh=1,
    reward="cosine",
    reward_on="waveform",
)

PATHWISE = UpdateConfig(
    group_size=1,
    estimator="pathwise",
    advantage="batch",
    gain_coef=5.0,
    entropy_coef=0.0,
    kl_old_coef=0.0,
    kl_ref_coef=0.0,
    supervised_coef=1.0,
    reward="contrastive",
    signal_coef=1.0,
    reward_on="waveform",
)

PRESETS = {"paper": PAPER, "trust_region": TRUST_REGION, "pathwise": PATHWISE}
