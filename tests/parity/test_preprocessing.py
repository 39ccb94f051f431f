"""Preprocessing against the published code, run on the spot where it is installed.

Needs what setup.cfg's extra ``parity`` and requirements-no-deps.txt name.
"""

import types
import unicodedata
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from marssep_jax.audio import read_audio, write_audio
from marssep_jax.preprocessing.clip_pictures import clip_picture, clip_video
from marssep_jax.preprocessing.clip_tokens import find_vocabulary, make_clip_tokenizer
from marssep_jax.preprocessing.imagebind_sound import imagebind_sound_host
from marssep_jax.preprocessing.kaldi import kaldi_log_mel
from marssep_jax.preprocessing.resampling import resample_sinc_host

FILM_RATE_HZ = 30

torch = pytest.importorskip("torch")


class _Clip(NamedTuple):
    clip_start_sec: Fraction
    clip_end_sec: Fraction
    clip_index: int
    aug_index: int
    is_last_clip: bool


class _Sampler:
    """Evenly spread clips; the duration comes as a float and is made exact again."""

    def __init__(self, clip_duration, clips_per_video):
        self.seconds, self.num_clips, self.index = clip_duration, clips_per_video, 0

    def __call__(self, _, duration, annotation=None):
        room = Fraction(duration).limit_denominator(48_000) - self.seconds
        start = self.index * max(room, Fraction(0)) / (self.num_clips - 1)
        self.index += 1
        last = self.index == self.num_clips
        return _Clip(start, start + self.seconds, self.index - 1, 0, last)

    def reset(self):
        self.index = 0


class _ShortSideScale(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, frames):
        short = min(frames.shape[2:])
        sides = tuple(self.size * side // short for side in frames.shape[2:])
        return torch.nn.functional.interpolate(
            frames, size=sides, mode="bilinear", align_corners=False
        )


class _Subsample(torch.nn.Module):
    def __init__(self, num_samples):
        super().__init__()
        self.num_samples = num_samples

    def forward(self, frames):
        ends = torch.linspace(0, frames.shape[1] - 1, self.num_samples)
        return frames[:, ends.long()]


class _Film:
    """A decoded film; ``frames`` is set by the test."""

    frames: np.ndarray

    @classmethod
    def from_path(cls, *_, **__):
        return cls()

    @property
    def duration(self):
        return len(self.frames) / FILM_RATE_HZ

    def get_clip(self, start, end):
        first, last = int(start * FILM_RATE_HZ), int(end * FILM_RATE_HZ)
        clip = torch.from_numpy(self.frames[first:last])
        return {"video": clip.permute(3, 0, 1, 2).float()}


@pytest.fixture(scope="module")
def torchaudio():
    pytest.importorskip("torchaudio")
    import torchaudio
    import torchaudio.compliance.kaldi

    def load(path):
        waveform, rate_hz = read_audio(path)
        return torch.from_numpy(waveform), rate_hz

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchaudio, "load", load)
        yield torchaudio


@pytest.fixture(scope="module")
def imagebind(torchaudio, shelf):
    """Return ImageBind's data module."""
    shelf.need("torchvision", "imagebind", "ftfy", "open_clip")
    vocabulary = str(find_vocabulary())
    shelf.open_package("torchvision")
    nothing = {"_has_ops": lambda: False, "_assert_has_ops": lambda: None}
    shelf.stand_in("torchvision.extension", **nothing)
    shelf.open_imagebind()
    shelf.stand_in("pkg_resources", resource_filename=lambda *_: vocabulary)
    transforms = types.SimpleNamespace(
        ShortSideScale=_ShortSideScale, UniformTemporalSubsample=_Subsample
    )
    shelf.stand_in("pytorchvideo", transforms=transforms)
    shelf.stand_in("pytorchvideo.data")
    sampling = "pytorchvideo.data.clip_sampling"
    shelf.stand_in(sampling, ConstantClipsPerVideoSampler=_Sampler)
    shelf.stand_in("pytorchvideo.data.encoded_video", EncodedVideo=_Film)
    import imagebind.data

    return imagebind.data


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def _colours(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    "rates",
    [(11_025, 16_000), (16_000, 11_025), (44_100, 16_000), (16_000, 48_000)],
)
def test_resampling_equals_torchaudio(torchaudio, rates):
    waveform = _noise(2, 5_001)
    theirs = torchaudio.functional.resample(torch.from_numpy(waveform), *rates)
    ours = resample_sinc_host(waveform, *rates)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_filter_bank_equals_torchaudio(torchaudio):
    waveform = 0.1 * _noise(1, 16_000)
    theirs = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(waveform),
        htk_compat=True,
        sample_frequency=16_000,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_length=25,
        frame_shift=10,
    )
    # Its triangles are float32 whatever the samples are.
    np.testing.assert_allclose(kaldi_log_mel(waveform[0]), theirs, atol=3e-4)


@pytest.mark.parametrize(
    ("rate_hz", "num_samples", "channels"),
    [
        (16_000, 116_800, 1),
        (16_000, 112_000, 2),
        (11_025, 66_150, 1),
        (44_100, 401_310, 2),
        (16_000, 17_600, 1),  # shorter than a clip
    ],
)
def test_sound_equals_imagebind(imagebind, tmp_path, rate_hz, num_samples, channels):
    time = np.arange(num_samples) / rate_hz
    waveform = 0.3 * np.sin(880 * np.pi * time) + 0.05 * _noise(channels, num_samples)
    write_audio(tmp_path / "a.wav", waveform.astype(np.float32), rate_hz)
    stored, _ = read_audio(tmp_path / "a.wav")
    theirs = imagebind.load_and_transform_audio_data([str(tmp_path / "a.wav")], "cpu")
    ours = imagebind_sound_host(stored, rate_hz)
    # Theirs is float32: rows that hold little show its rounding through the log.
    np.testing.assert_allclose(ours[:, None], theirs[0], atol=5e-3)
    assert np.abs(ours[:, None] - theirs[0].numpy()).mean() < 5e-5


@pytest.mark.parametrize(
    "shape", [(301, 457), (457, 301), (224, 224), (1, 1), (3, 200), (720, 1_280)]
)
def test_picture_equals_imagebind_bit_for_bit(imagebind, tmp_path, shape):
    pixels = _colours(*shape, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png")]
    theirs = imagebind.load_and_transform_vision_data(paths, "cpu")
    np.testing.assert_array_equal(clip_picture(pixels).transpose(2, 0, 1), theirs[0])


@pytest.mark.parametrize(
    ("num_frames", "height", "width"),
    [(300, 240, 320), (100, 320, 240), (31, 224, 224), (299, 300, 255)],
)
def test_film_equals_imagebind(imagebind, num_frames, height, width):
    _Film.frames = _colours(num_frames, height, width, 3)
    theirs = imagebind.load_and_transform_video_data(["film"], "cpu")
    ours = clip_video(_Film.frames, FILM_RATE_HZ).transpose(0, 4, 1, 2, 3)
    assert ours.shape == theirs[0].shape == (15, 3, 2, 224, 224)
    # Its positions are float32: 3e-5 of a pixel, at 4 units between black and white.
    np.testing.assert_allclose(ours, theirs[0], atol=2e-4)


def test_ids_equal_imagebind(imagebind):
    captions = [
        "It's 12:30 o'clock — café naïve",
        "violin &amp;amp; x",
        "ＦＵＬＬwidth ﬁ",
        "don'ſ I'LL we'Re 's't",
        "a\u200bb e\u0301 \u00bd \u00b2 Ⅷ",
        "İstanbul ẞ 日本語 🎻🎻 🏽‍♂️ 𝒜𝓃",
        "a_b-c...!? \x00 \x1fb\x85k",
        "sch√∂n â€œquotedâ€\x9d l’humanité",
        "x " * 100,
    ]
    rng = np.random.default_rng(0)
    ranges = [(32, 127), (0xA0, 0x250), (0x300, 0x3000), (0x3000, 0xD800)]
    ranges += [(0xE000, 0x10000), (0x10000, 0x20000)]
    for _ in range(2_000):
        spans = rng.choice(ranges, rng.integers(1, 12))
        letters = [chr(rng.integers(low, high)) for low, high in spans]
        # The libraries know different versions of Unicode.
        known = [one for one in letters if unicodedata.category(one) != "Cn"]
        captions.append("a" + "".join(known))
    theirs = imagebind.load_and_transform_text(captions, "cpu")
    np.testing.assert_array_equal(make_clip_tokenizer()(captions), theirs)
