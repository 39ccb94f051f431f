"""The supervised base on VGGSound with ImageBind's queries (OmniSep's settings).

Data:       python -m experiments.prepare --dataset=vggsound --manual_dir=DIR
Weights:    python -m experiments.convert --encoder=imagebind \
                --source=imagebind_huge.pth --output=weights/imagebind
Run:        python -m experiments.train --workdir=runs/vggsound_supervised \
                --config=experiments/configs/vggsound_supervised.py
Time:       unknown here; the paper needs 4 h for 10 000 of the 200 000 steps on a
            GPU of 40 GB.
Score:      published for OmniSep on VGGSOUND-clean+, by words: SDR 6.70 dB, SI-SDRi
            4.38 dB.
Last run:   never: it needs the data and the weights.
"""

import ml_collections

from experiments import published


def get_config() -> ml_collections.ConfigDict:
    """Return the settings."""
    return published.supervised("vggsound")
