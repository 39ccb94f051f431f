"""Reinforcement of the MUSIC base with a trust region that acts.

Ours: a group of samples, several steps per group, and a leash to the supervised
start. `policy/clip_fraction` is above 0.

Before:     music_supervised.py, and
            python -m experiments.align --workdir=runs/music_listeners \
                --config=experiments/configs/music_rl_trust_region.py
Run:        python -m experiments.train --workdir=runs/music_rl_trust_region \
                --config=experiments/configs/music_rl_trust_region.py
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
    return published.reinforced("music", "trust_region")
