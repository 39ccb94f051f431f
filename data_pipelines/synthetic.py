"""A small data set made in memory, for tests and the debug configuration.

Six classes in three families, so that a negative of the same family exists:
tones, chirps and noises, each with a low and a high member. Every clip is drawn
anew, pictures are plain shapes on plain backgrounds.
"""

import numpy as np

from data_pipelines.catalogue import Catalogue
from data_pipelines.levels import to_int16

CLASSES = (
    ("low tone", 0),
    ("high tone", 0),
    ("rising chirp", 1),
    ("falling chirp", 1),
    ("low noise", 2),
    ("high noise", 2),
)
"""Class names with their families: tones, chirps, noises."""

TEMPLATES = ("{}", "the sound of a {}", "a recording of a {}", "someone plays a {}")


def synthetic_catalogue(
    num_samples: int = 10_240,
    *,
    crop_samples: int = 8_191,
    sample_rate_hz: int = 11_025,
    clips_per_class: int = 12,
    test_clips_per_class: int = 4,
    image_size: int = 48,
    images_per_class: int = 12,
    seed: int = 0,
) -> Catalogue:
    """Make a catalogue of tones, chirps and noises.

    Args:
      num_samples: Length of a clip.
      crop_samples: Length of the crops that training takes of it.
      sample_rate_hz: Sampling rate.
      clips_per_class: Clips of each class in ``train`` and ``judge_train``.
      test_clips_per_class: Clips of each class in the other splits.
      image_size: Side of a picture in pixels.
      images_per_class: Pictures of each class; a quarter belongs to test artists
        and the last class has none, as some real classes have none.
      seed: Another seed gives other clips and pictures.

    Returns:
      A catalogue with the splits of the real data sets.

    Raises:
      ValueError: the crop is longer than the clip.
    """
    if crop_samples > num_samples:
        raise ValueError(
            f"crop_samples is {crop_samples}, expected at most num_samples = "
            f"{num_samples}"
        )
    sizes = dict.fromkeys(
        ("validation", "seen", "unseen"), test_clips_per_class
    ) | dict.fromkeys(("train", "judge_train"), clips_per_class)
    clips, labels, names = {}, {}, {}
    for number, split in enumerate(sorted(sizes)):
        rng = np.random.default_rng([seed, number])
        labels[split] = np.repeat(np.arange(len(CLASSES)), sizes[split]).astype("int32")
        rows = [_clip(rng, c, num_samples, sample_rate_hz) for c in labels[split]]
        clips[split] = np.stack(rows)
        names[split] = tuple(
            f"{split}/{CLASSES[c][0].replace(' ', '-')}-{i:03d}"
            for i, c in enumerate(labels[split])
        )
    images, image_label, image_split = _images(seed, image_size, images_per_class)
    return Catalogue(
        dataset="synthetic",
        class_names=tuple(name for name, _ in CLASSES),
        families=tuple(family for _, family in CLASSES),
        texts=tuple(t.format(name) for name, _ in CLASSES for t in TEMPLATES),
        text_label=np.repeat(np.arange(len(CLASSES)), len(TEMPLATES)).astype("int32"),
        images=images,
        image_label=image_label,
        image_split=image_split,
        sample_rate_hz=sample_rate_hz,
        num_samples=num_samples,
        clips=clips,
        clip_label=labels,
        clip_id=names,
        description={
            "version": "1.0.0",
            "crop_samples": crop_samples,
            "reduced": False,
            "licences": {},
            "versions": {"numpy": np.__version__},
            "counts": {split: len(rows) for split, rows in clips.items()},
        },
    )


def _clip(rng: np.random.Generator, label: int, length: int, rate: int) -> np.ndarray:
    """Draw one clip of a class, with a slow random envelope."""
    seconds = np.arange(length) / rate
    if label < 2:
        pitch = rng.uniform(150, 300) if label == 0 else rng.uniform(900, 1800)
        overtones = rng.uniform(0.2, 1.0, 3) / (1, 2, 3)
        phase = 2 * np.pi * pitch * seconds
        wave = sum(a * np.sin(k * phase) for k, a in enumerate(overtones, 1))
    elif label < 4:
        edges = sorted(rng.uniform((200, 1500), (500, 3500)))
        start, stop = edges if label == 2 else edges[::-1]
        share = (seconds * rng.uniform(1.5, 4.0)) % 1.0
        wave = np.sin(2 * np.pi * np.cumsum(start * (stop / start) ** share) / rate)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(length))
        frequency = np.fft.rfftfreq(length, 1 / rate)
        band = (100, 600) if label == 4 else (2000, 4500)
        wave = np.fft.irfft(
            spectrum * ((frequency > band[0]) & (frequency < band[1])), length
        )
    envelope = 1 + 0.7 * np.sin(
        2 * np.pi * rng.uniform(1, 6) * seconds + rng.uniform(0, 6.28)
    )
    return to_int16(wave * envelope + 1e-3 * rng.standard_normal(length))


def _images(
    seed: int, size: int, per_class: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw bars, rings and specks; the member of a family sets the colour."""
    rng = np.random.default_rng([seed, 99])
    row, column = np.mgrid[:size, :size] / size - 0.5
    pixels, labels, splits = [], [], []
    for label, (_, family) in enumerate(CLASSES[:-1]):
        for number in range(per_class):
            x, y = column - rng.uniform(-0.2, 0.2), row - rng.uniform(-0.2, 0.2)
            shape = (
                np.abs(y) < rng.uniform(0.05, 0.15),
                np.abs(np.hypot(x, y) - rng.uniform(0.15, 0.3)) < 0.06,
                rng.random((size, size)) < 0.4,
            )[family]
            colour = np.array((220, 60, 40) if label % 2 else (40, 90, 220))
            back = rng.integers(150, 255, 3)
            pixels.append(np.where(shape[..., None], colour, back).astype(np.uint8))
            labels.append(label)
            splits.append(int(number >= per_class - per_class // 4))
    images = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    return images, np.asarray(labels, np.int32), np.asarray(splits, np.int32)
