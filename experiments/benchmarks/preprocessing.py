"""Our transforms and log-mels against the libraries that others take."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import references
from experiments.benchmarks.rows import NotMeasuredError, Row, compared_row
from experiments.benchmarks.suites import or_not_measured
from experiments.benchmarks.timing import Job
from marssep_jax.config import FrontendConfig
from marssep_jax.features import istft, stft
from marssep_jax.preprocessing.clap_mel import HIGH_HZ, LOW_HZ, clap_log_mel
from marssep_jax.preprocessing.clips import (
    CLAP_RATE_HZ,
    CLAP_WINDOW_SAMPLES,
    IMAGEBIND_CLIP_SECONDS,
)
from marssep_jax.preprocessing.kaldi import (
    DEVIATION,
    MEAN,
    NUM_FRAMES,
    NUM_MELS,
    RATE_HZ,
    imagebind_log_mel,
)
from marssep_jax.preprocessing.resampling import resample_sinc

NAMES = (
    "preprocess.stft_vs_librosa",
    "preprocess.istft_vs_librosa",
    "preprocess.stft_vs_torch",
    "preprocess.istft_vs_torch",
    "preprocess.resampling_vs_torchaudio",
    "preprocess.imagebind_sound_vs_torchaudio",
    "preprocess.clap_sound_vs_transformers",
)

NUM_WAVEFORMS, NUM_CLIPS, NUM_WINDOWS = 8, 12, 8
TINY_NUMBER = 1
OTHER_RATE_HZ = 11_025
"""Of recordings that ImageBind is to hear."""
ROUNDS = 15
LARGEST_DIFFERENCE = 1e-3
"""Of spectra, samples or log-mels; ours are float32, some references are not."""


def measure(tiny: bool) -> list[Row]:
    """Transform batches of noise by each."""
    rows: list[Row] = []
    for names, part in (
        (NAMES[:2], _librosa),
        (NAMES[2:4], _torch),
        (NAMES[4:5], _resampling),
        (NAMES[5:6], _imagebind),
        (NAMES[6:], _clap),
    ):
        rows += or_not_measured(names, partial(part, tiny))
    return rows


def _noise(*shape: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def _require_host() -> None:
    """Raise where a reference would compute elsewhere than JAX."""
    if references.torch_device() != "cpu":
        raise NotMeasuredError("the reference computes on the host, JAX elsewhere")


def _librosa(tiny: bool) -> list[Row]:
    import librosa

    config = FrontendConfig()
    waveform = _noise(TINY_NUMBER if tiny else NUM_WAVEFORMS, config.num_samples)
    sizes: Any = {"n_fft": config.n_fft, "hop_length": config.hop}
    return _transforms(
        tiny,
        NAMES[:2],
        f"librosa {references.version('librosa')}",
        waveform,
        lambda: librosa.stft(waveform, pad_mode="constant", **sizes),
        lambda spectrum: librosa.istft(spectrum, length=config.num_samples, **sizes),
    )


def _torch(tiny: bool) -> list[Row]:
    device = references.torch_device()
    import torch

    config = FrontendConfig()
    waveform = _noise(TINY_NUMBER if tiny else NUM_WAVEFORMS, config.num_samples)
    theirs = torch.from_numpy(waveform).to(device)
    sizes: Any = {
        "n_fft": config.n_fft,
        "hop_length": config.hop,
        "window": torch.hann_window(config.n_fft, device=device),
    }

    def forward() -> Any:
        found = torch.stft(theirs, pad_mode="constant", return_complex=True, **sizes)
        found = found.contiguous()  # as ours is; PyTorch returns a view that is not
        references.finish(device)
        return found

    def inverse(spectrum: Any) -> Any:
        found = torch.istft(spectrum, length=config.num_samples, **sizes)
        references.finish(device)
        return found

    credit = f"PyTorch {references.version('torch')}"
    return _transforms(tiny, NAMES[2:4], credit, waveform, forward, inverse, device)


def _transforms(
    tiny: bool,
    names: tuple[str, ...],
    credit: str,
    waveform: np.ndarray,
    forward: Job,
    inverse: Callable[[Any], Any],
    device: str = "",
) -> list[Row]:
    """Return the rows of a transform and of its inverse; PyTorch's have a device."""
    ours = jax.jit(stft)
    back = jax.jit(partial(istft, length=waveform.shape[-1]))
    placed = jax.device_put(waveform)
    spectrum = ours(placed)
    theirs: Any = np.array(spectrum)  # a copy that PyTorch may hold
    if device:
        import torch

        theirs = torch.from_numpy(theirs).to(device)
    return [
        _row(tiny, names[0], credit, partial(ours, placed), forward),
        _row(tiny, names[1], credit, partial(back, spectrum), partial(inverse, theirs)),
    ]


def _resampling(tiny: bool) -> list[Row]:
    _require_host()
    references.keep_torchaudio_from_its_libraries()
    import torch
    from torchaudio.functional import resample

    num_samples = FrontendConfig().num_samples
    waveform = _noise(TINY_NUMBER if tiny else NUM_WAVEFORMS, num_samples)
    theirs, placed = torch.from_numpy(waveform), jax.device_put(waveform)
    rates = (OTHER_RATE_HZ, RATE_HZ)
    ours = jax.jit(lambda waveform: resample_sinc(waveform, *rates))
    credit = f"torchaudio {references.version('torchaudio')}, functional.resample"
    reference = partial(resample, theirs, *rates)
    return [_row(tiny, NAMES[4], credit, partial(ours, placed), reference)]


def _imagebind(tiny: bool) -> list[Row]:
    _require_host()
    references.keep_torchaudio_from_its_libraries()
    import torch
    from torchaudio.compliance import kaldi

    num_samples = IMAGEBIND_CLIP_SECONDS * RATE_HZ
    clips = _noise(TINY_NUMBER if tiny else NUM_CLIPS, num_samples)
    theirs, placed = torch.from_numpy(clips), jax.device_put(clips)
    ours = jax.jit(imagebind_log_mel)

    def reference() -> Any:
        """Take one clip after the other, as that function does."""
        found = [
            kaldi.fbank(
                clip[None],
                htk_compat=True,
                sample_frequency=RATE_HZ,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=NUM_MELS,
                dither=0.0,
            )
            for clip in theirs
        ]
        mel = torch.stack(found).transpose(1, 2)
        missing = NUM_FRAMES - mel.shape[-1]
        return (torch.nn.functional.pad(mel, (0, missing)) - MEAN) / DEVIATION

    credit = f"torchaudio {references.version('torchaudio')}, compliance.kaldi.fbank"
    return [_row(tiny, NAMES[5], credit, partial(ours, placed), reference)]


def _clap(tiny: bool) -> list[Row]:
    _require_host()
    references.keep_transformers_from_broken_packages()
    import transformers

    windows = _noise(TINY_NUMBER if tiny else NUM_WINDOWS, CLAP_WINDOW_SAMPLES)
    placed, ours = jax.device_put(windows), jax.jit(clap_log_mel)
    extractor = transformers.ClapFeatureExtractor(
        frequency_min=LOW_HZ, frequency_max=HIGH_HZ, truncation="rand_trunc"
    )

    def reference() -> np.ndarray:
        found = extractor(
            list(windows), sampling_rate=CLAP_RATE_HZ, return_tensors="np"
        )
        return np.asarray(found.input_features)[:, 0]

    credit = f"transformers {references.version('transformers')}, ClapFeatureExtractor"
    return [_row(tiny, NAMES[6], credit, partial(ours, placed), reference)]


def _on_host(found: Any) -> np.ndarray:
    return np.asarray(found.cpu() if hasattr(found, "cpu") else found)


def _row(tiny: bool, name: str, credit: str, ours: Job, reference: Job) -> Row:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty filters, and of what will move
        first, second = (_on_host(job()) for job in (ours, reference))
        return compared_row(
            name,
            ours,
            reference,
            credit,
            float(np.abs(first - second).max()),
            largest=LARGEST_DIFFERENCE,
            rounds=1 if tiny else ROUNDS,
        )
