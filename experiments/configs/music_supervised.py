"""The supervised base on MUSIC with ImageBind's queries (OmniSep's settings).

Data:       python -m experiments.prepare --dataset=music --manual_dir=DIR
Weights:    python -m experiments.convert --encoder=imagebind \
                --source=imagebind_huge.pth --output=weights/imagebind
Run:        python -m experiments.train --workdir=runs/music_supervised \
                --config=experiments/configs/music_supervised.py
Time:       unknown here; the paper needs 4 h for 10 000 of the 200 000 steps on a
            GPU of 40 GB.
Score:      none to compare with: the published base is trained on VGGSound, also
            for MUSIC-clean+ (OmniSep, by words: SDR 12.37 dB, SI-SDRi 9.18 dB). Of
            its 46 videos 35 are in MUSIC's training list; `experiments.prepare` keeps
            them out of training.
Last run:   never: it needs the data and the weights.
"""

import ml_collections

from experiments import published


def get_config() -> ml_collections.ConfigDict:
    """Return the settings."""
    return published.supervised("music")
