"""Reinforcement of the MUSIC base by the reward's own derivative.

Ours: one mask a target, through which meaning and SI-SDR are differentiated, beside
the supervised loss. The preset that helped most on recordings that no stage heard
(experiments/RL.md); nothing of it has been tried with ImageBind.

Before:     music_supervised.py, and
            python -m experiments.align --workdir=runs/music_listeners \
                --config=experiments/configs/music_rl_pathwise.py
Run:        python -m experiments.train --workdir=runs/music_rl_pathwise \
                --config=experiments/configs/music_rl_pathwise.py
Time:       unknown here; the paper needs 8 h for 10 000 of the 200 000 steps on a
            GPU of 40 GB, with one sample a target and one step.
Score:      none to compare with: the published base is trained on VGGSound, also
            for MUSIC-clean+ (MARS-Sep, by words: SDR 12.91 dB, SI-SDRi 9.85 dB). Of
            its 46 videos 35 are in MUSIC's training list; `experiments.prepare` keeps
            them out of training.
Last run:   never: it needs the data and the weights.
"""

import ml_collections

from experiments import published


def get_config() -> ml_collections.ConfigDict:
    """Return the settings."""
    return published.reinforced("music", "pathwise")
