"""The published runs on VGGSound and MUSIC, shared by their config files.

Values are the paper's or OmniSep's where either states one (``paper``,
``omnisep``), and ours elsewhere.
"""

import ml_collections

from experiments.settings import default_config
from marssep_jax.config import to_dict
from marssep_jax.presets import PRESETS

ENCODER = {
    "architecture": "imagebind",  # paper, omnisep
    "backbone": "weights/imagebind",
    "embed_dim": 1024,
    "image_size": 224,
    "text_length": 77,
}
"""The encoder of queries and reward; `experiments.convert` writes its folder."""


def base_config(dataset: str) -> ml_collections.ConfigDict:
    """Return what every stage of a published run shares.

    Args:
      dataset: ``vggsound`` or ``music``.
    """
    config = default_config()  # front end and separator: omnisep
    config.encoder.update(ENCODER)
    config.separator.embed_dim = config.encoder.embed_dim
    config.data.dataset = dataset
    config.data.eq_db = 0.0  # omnisep: no equaliser
    config.data.query_concentration = 2.0  # omnisep: weights' deviation is 0.18
    config.data.num_validation = 512
    config.training.batch_size = 128  # paper
    config.training.num_steps = 200_000  # paper
    config.training.log_every = 100
    config.training.eval_every = config.training.save_every = 10_000  # omnisep
    config.training.mask_target = "binary"  # omnisep
    config.align.heads_only = True  # paper
    return config


def supervised(dataset: str) -> ml_collections.ConfigDict:
    """Return the settings of the supervised base (omnisep)."""
    config = base_config(dataset)
    config.name = f"{dataset}_supervised"
    config.optimiser.learning_rate = 1e-3  # omnisep
    config.optimiser.weight_decay = 0.0  # omnisep: Adam
    config.optimiser.warmup_steps = 5_000  # omnisep
    config.optimiser.decay_steps = 95_000  # omnisep's length; its decay is linear
    config.optimiser.final_fraction = 0.1  # omnisep
    return config


def reinforced(dataset: str, preset: str) -> ml_collections.ConfigDict:
    """Return the settings of the policy stage.

    Args:
      dataset: ``vggsound`` or ``music``.
      preset: a name of ``marssep_jax.presets``.
    """
    config = base_config(dataset)
    config.stage = "policy"
    config.name = f"{dataset}_rl" if preset == "paper" else f"{dataset}_rl_{preset}"
    config.seed = 1  # mixtures that the base has not met
    config.start.separator = f"runs/{dataset}_supervised"
    config.start.encoder = f"runs/{dataset}_listeners"
    config.policy.kappa = 9.0  # paper
    config.rl.update(to_dict(PRESETS[preset]))
    config.optimiser.learning_rate = 2e-4  # paper
    config.optimiser.weight_decay = 0.01  # paper
    config.optimiser.warmup_steps = 1_000  # ours: the paper has one of unstated length
    return config
