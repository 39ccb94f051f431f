"""Reinforcement of the VGGSound base with a trust region that acts.

Ours: a group of samples, several steps per group, and a leash to the supervised
start. `policy/clip_fraction` is above 0.

Before:     vggsound_supervised.py, and
            python -m experiments.align --workdir=runs/vggsound_listeners \
                --config=experiments/configs/vggsound_rl_trust_region.py
Run:        python -m experiments.train --workdir=runs/vggsound_rl_trust_region \
                --config=experiments/configs/vggsound_rl_trust_region.py
Time:       unknown here; the paper needs 8 h for 10 000 of the 200 000 steps on a
            GPU of 40 GB, with one sample a target and one step.
Score:      none published for these settings; MARS-Sep, VGGSOUND-clean+, by words:
            SDR 6.91 dB, SI-SDRi 4.55 dB.
Last run:   never: it needs the data and the weights.
"""

import ml_collections

from experiments import published


def get_config() -> ml_collections.ConfigDict:
    """Return the settings."""
    return published.reinforced("vggsound", "trust_region")
