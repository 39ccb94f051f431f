"""Reinforcement of the MUSIC base as the paper's numbers have it.

Clip and KL never act under these settings: at the only gradient step of a sample
the ratio is 1 (`policy/clip_fraction` shows it). music_rl_trust_region.py is the
variant in which they do.

Before:     music_supervised.py, and
            python -m experiments.align --workdir=runs/music_listeners \
                --config=experiments/configs/music_rl.py
Run:        python -m experiments.train --workdir=runs/music_rl \
                --config=experiments/configs/music_rl.py
Time:       unknown here; the paper needs 8 h for 10 000 of the 200 000 steps on a
            GPU of 40 GB.
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
    return published.reinforced("music", "paper")
