"""The published protocols by name.

What each one says:

- ``vggsound_clean_plus``, ``music_clean_plus`` (OmniSep, CLIPSep): 16 kHz, a crop of
  65535 samples around each clip's middle frame, both halved and added at their own
  levels, whatever those are; the first 65280 samples are scored, which is what an
  inverse transform of 256 frames without padding gives back.
- ``dcase2024_task9``: the synthetic validation mixtures of DCASE 2024 Task 9, 16 kHz,
  10 s; the noise is scaled to the stated ratio of mean powers, and where the sum
  passes full scale everything is scaled to a peak of 0.9.
- ``audiosep_*``: AudioSep's evaluation sets at 32 kHz; target and mixture are stored
  as files, whose levels and lengths no list states. AudioSep prints the mean over
  mixtures, but for MUSIC the mean of class means, and for AudioSet the mean of class
  medians.
"""

import functools

from data_pipelines.published import clean_plus, local_lists
from data_pipelines.published.plans import AT_SNR, HALVED, STORED, Benchmark
from data_pipelines.published.recordings import CLIP_SAMPLES

SCORED_SAMPLES = 65_280
DCASE_SAMPLES = 160_000
AUDIOSEP_SIZES = {
    "audiocaps": 4_820,
    "audioset": 5_270,
    "clotho": 5_225,
    "esc50": 2_000,
    "music": 5_004,
    "vggsound": 1_000,
}


def _clean_plus(name: str, size: int, credit: str) -> Benchmark:
    return Benchmark(
        name,
        functools.partial(clean_plus.read_plan, name),
        size,
        16_000,
        HALVED,
        CLIP_SAMPLES,
        SCORED_SAMPLES,
        credit,
    )


def _audiosep(which: str, size: int) -> Benchmark:
    name = f"audiosep_{which}"
    read = functools.partial(local_lists.read_audiosep, name, which)
    credit = "AudioSep's evaluation sets (list: MIT)"
    return Benchmark(name, read, size, 32_000, STORED, credit=credit)


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        _clean_plus(
            "vggsound_clean_plus", 98, "OmniSep's pairs of VGGSound clips, 98 mixtures"
        ),
        _clean_plus(
            "music_clean_plus",
            46,
            "CLIPSep's 46 targets of MUSIC with OmniSep's pool of VGGSound clips",
        ),
        Benchmark(
            "dcase2024_task9",
            functools.partial(local_lists.read_dcase, "dcase2024_task9"),
            3_000,
            16_000,
            AT_SNR,
            DCASE_SAMPLES,
            credit="DCASE 2024 Task 9, synthetic validation mixtures",
        ),
        *(_audiosep(which, size) for which, size in AUDIOSEP_SIZES.items()),
    )
}
