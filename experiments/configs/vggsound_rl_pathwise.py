"""Reinforcement of the VGGSound base by the reward's own derivative.

Ours: one mask a target, through which meaning and SI-SDR are differentiated, beside
the supervised loss. The preset that helped most on recordings that no stage heard
(experiments/RL.md); nothing of it has been tried with ImageBind.

Before:     vggsound_supervised.py, and
            python -m experiments.align --workdir=runs/vggsound_listeners \
                --config=experiments/configs/vggsound_rl_pathwise.py
Run:        python -m experiments.train --workdir=runs/vggsound_rl_pathwise \
                --config=experiments/configs/vggsound_rl_pathwise.py
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
    return published.reinforced("vggsound", "pathwise")
