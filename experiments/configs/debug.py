"""The whole path on clips made in memory, small enough for tests.

Whole:      python -m experiments.quickstart --config=experiments/configs/debug.py \
                --workdir=/tmp/debug
One stage:  python -m experiments.train --config=experiments/configs/debug.py \
                --workdir=/tmp/debug_base
Time:       under a minute on two cores.
Score:      none to speak of: a dozen steps a stage.
"""

import ml_collections

from experiments.settings import default_config


def get_config(stage: str = "supervised") -> ml_collections.ConfigDict:
    """Return the settings of a stage: supervised, continued or policy."""
    config = default_config()
    config.frontend.sample_rate_hz = 11_025
    config.frontend.num_samples = 8_191
    config.frontend.num_rows = 64
    config.frontend.average_rows = True
    config.separator.architecture = "compact"
    config.separator.embed_dim = config.encoder.embed_dim = 16
    config.separator.widths = (8, 16)
    config.separator.num_channels = 8
    config.encoder.audio_widths = (8, 16)
    config.encoder.image_widths = (8, 16)
    config.encoder.pooling_rank = 8
    config.judge.num_rows = 32
    config.judge.width = 16
    config.data.dataset = "synthetic"
    config.data.num_absent = 1
    config.data.num_validation = config.data.num_test = 8
    config.align.batch_size = config.judge_training.batch_size = 12
    config.align.num_steps = (6, 4, 4)
    config.align.log_every = config.judge_training.log_every = 4
    config.judge_training.num_steps = 8
    config.training.batch_size = 4
    config.training.num_steps = 12
    config.training.log_every = 2
    config.training.eval_every = config.training.save_every = 6
    config.training.tensorboard = False
    config.optimiser.learning_rate = 1e-3
    config.optimiser.warmup_steps = 2
    if stage == "policy":
        config.stage, config.name = "policy", "rl"
        config.start.separator = "/tmp/debug_base"
        config.training.num_steps = 6
        config.training.eval_every = config.training.save_every = 2
        config.training.patience = 3
        config.policy.noise_patch = (8, 8)
        config.rl.group_size = 2
        config.rl.entropy_coef = 0.0
        config.rl.kl_ref_coef = 0.02
        config.rl.supervised_coef = 0.3
    elif stage == "continued":
        config.name, config.seed = "continued", 1
        config.start.separator = "/tmp/debug_base"
        config.training.num_steps = 6
    elif stage != "supervised":
        raise ValueError(
            f"stage is {stage!r}, expected supervised, continued or policy"
        )
    return config
