"""Reinforcement of the VGGSound base as the paper's numbers have it.

Clip and KL never act under these settings: at the only gradient step of a sample
the ratio is 1 (`policy/clip_fraction` shows it). vggsound_rl_trust_region.py is the
variant in which they do.

Before:     vggsound_supervised.py, and
            python -m experiments.align --workdir=runs/vggsound_listeners \
                --config=experiments/configs/vggsound_rl.py
Run:        python -m experiments.train --workdir=runs/vggsound_rl \
                --config=experiments/configs/vggsound_rl.py
Time:       unknown here; the paper needs 8 h for 10 000 of the 200 000 steps on a
            GPU of 40 GB.
Score:      published for MARS-Sep on VGGSOUND-clean+, by words: SDR 6.91 dB, SI-SDRi
            4.55 dB.
Last run:   never: it needs the data and the weights.
"""

import ml_collections

from experiments import published


def get_config() -> ml_collections.ConfigDict:
    """Return the settings."""
    return published.reinforced("vggsound", "paper")
