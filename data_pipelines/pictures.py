"""Pictures of instruments: drawings of several artists, varied once and kept.

Varying pictures while training costs more than the network that looks at them;
a fixed bank of a few thousand views does as well. The artist of the test split
is seen by no stage.
"""

import io
import json
import pathlib
import re
from typing import NamedTuple

import numpy as np

SIZE = 48

DRAWINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "noto": {
        "accordion": ("accordion",),
        "acoustic guitar": ("guitar",),
        "banjo": ("banjo",),
        "congas": ("long-drum",),
        "drum kit": ("drum",),
        "flute": ("flute",),
        "harp": ("harp",),
        "piano": ("musical-keyboard",),
        "saxophone": ("saxophone",),
        "trombone": ("trombone",),
        "trumpet": ("trumpet",),
        "violin": ("violin",),
    },
    "emojione": {
        "acoustic guitar": ("guitar",),
        "drum kit": ("drum",),
        "piano": ("musical-keyboard",),
        "saxophone": ("saxophone",),
        "trumpet": ("trumpet",),
        "violin": ("violin",),
    },
    "game-icons": {
        "accordion": ("accordion",),
        "acoustic guitar": ("guitar",),
        "bagpipe": ("bagpipes",),
        "banjo": ("banjo",),
        "bassoon": ("bassoon",),
        "clarinet": ("clarinet",),
        "drum kit": ("drum-kit", "drum"),
        "flute": ("flute",),
        "harp": ("harp",),
        "piano": ("grand-piano", "piano-keys", "musical-keyboard"),
        "saxophone": ("saxophone",),
        "trombone": ("trombone",),
        "trumpet": ("trumpet",),
        "tuba": ("tuba",),
        "violin": ("violin",),
        "xylophone": ("xylophone",),
    },
    "mdi": {
        "acoustic guitar": ("guitar-acoustic",),
        "piano": ("piano",),
        "saxophone": ("saxophone",),
        "trumpet": ("trumpet",),
        "violin": ("violin",),
    },
}
"""Names of the drawings by artist and class. No set draws a cello."""

DRAWINGS["twemoji"] = DRAWINGS["noto"]
DRAWINGS["fluent-emoji-flat"] = {
    name: names
    for name, names in DRAWINGS["noto"].items()
    if name not in ("harp", "trombone")
}


class Drawing(NamedTuple):
    """One artist's picture of one class.

    Attributes:
      artist: Key of its set.
      name: Its name in the set.
      label: Class number.
      body: SVG elements.
      box: Left, top, width, height of its view box.
    """

    artist: str
    name: str
    label: int
    body: str
    box: tuple[float, float, float, float]


def read_drawings(
    artist: str, path: pathlib.Path, class_names: tuple[str, ...]
) -> list[Drawing]:
    """Read one artist's drawings of our classes.

    Args:
      artist: Key of the set.
      path: Its JSON file.
      class_names: Names of the classes in order.

    Returns:
      The drawings in class order.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    wanted = DRAWINGS[artist]
    drawings = []
    for label, class_name in enumerate(class_names):
        for name in wanted.get(class_name, ()):
            icon = record["icons"][name]
            left, top, width, height = (
                float(icon.get(side, record.get(side, default)))
                for side, default in (
                    ("left", 0),
                    ("top", 0),
                    ("width", 16),
                    ("height", 16),
                )
            )
            box = (left, top, width, height)
            drawings.append(Drawing(artist, name, label, icon["body"], box))
    return drawings


def _svg(
    drawing: Drawing, ink: str, ground: str, turn: float, scale: float, flip: bool
) -> str:
    """Place a drawing on a plain ground, turned, scaled, mirrored."""
    left, top, width, height = drawing.box
    side = max(width, height)
    zoom = scale * SIZE / side
    half = SIZE / 2
    across = -zoom if flip else zoom
    placing = (
        f"translate({half} {half}) rotate({turn:.2f}) scale({across:.5f} {zoom:.5f}) "
        f"translate({-left - width / 2:.3f} {-top - height / 2:.3f})"
    )
    body = re.sub("currentColor", ink, drawing.body, flags=re.IGNORECASE)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}">'
        f'<rect width="{SIZE}" height="{SIZE}" fill="{ground}"/>'
        f'<g transform="{placing}" fill="{ink}">{body}</g></svg>'
    )


def rasterise(svg: str) -> np.ndarray:
    """Return an SVG text as pixels, uint8 [48, 48, 3]."""
    import resvg_py
    from PIL import Image

    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)


def plain_view(drawing: Drawing) -> np.ndarray:
    """Return a drawing upright on white."""
    return rasterise(_svg(drawing, "#202020", "#ffffff", 0.0, 0.9, False))


def varied_view(drawing: Drawing, rng: np.random.Generator) -> np.ndarray:
    """Return a drawing on a random ground, moved and recoloured at random."""
    light = rng.random() < 0.7
    ground = rng.integers(140, 256, 3) if light else rng.integers(0, 90, 3)
    ink = rng.integers(0, 110, 3) if light else rng.integers(160, 256, 3)
    view = rasterise(
        _svg(
            drawing,
            "#{:02x}{:02x}{:02x}".format(*ink),
            "#{:02x}{:02x}{:02x}".format(*ground),
            float(rng.uniform(-25, 25)),
            float(rng.uniform(0.6, 1.05)),
            bool(rng.random() < 0.5),
        )
    ).astype(np.float32)
    if rng.random() < 0.2:
        view = np.repeat(view.mean(axis=-1, keepdims=True), 3, axis=-1)
    # Contrast about mid-grey, brightness, and a cast of colour.
    view = (view - 128) * rng.uniform(0.7, 1.2) + 128 + rng.uniform(-25, 25)
    view *= rng.uniform(0.85, 1.15, 3)
    return np.clip(np.rint(view), 0, 255).astype(np.uint8)


class Bank(NamedTuple):
    """Pictures with their class, their split (0 train, 1 test) and artist."""

    images: np.ndarray
    label: np.ndarray
    split: np.ndarray
    name: tuple[str, ...]


def empty_bank() -> Bank:
    """Return a bank without pictures, as the reduced data set has it."""
    none = np.zeros(0, np.int32)
    return Bank(np.zeros((0, SIZE, SIZE, 3), np.uint8), none, none, ())


def make_bank(
    paths: dict[str, pathlib.Path],
    class_names: tuple[str, ...],
    *,
    test_artist: str,
    views_per_class: int,
    seed: int,
) -> Bank:
    """Rasterise all drawings: varied ones to train on, plain ones to test on.

    Args:
      paths: JSON file by artist.
      class_names: Names of the classes in order.
      test_artist: Whose drawings make the test split.
      views_per_class: Training views of a class, shared by its drawings.
      seed: Seed of the variations.

    Returns:
      The bank.
    """
    drawings = [
        d for key, path in paths.items() for d in read_drawings(key, path, class_names)
    ]
    images, label, split, name = [], [], [], []
    for c in range(len(class_names)):
        own = [d for d in drawings if d.label == c and d.artist != test_artist]
        rng = np.random.default_rng([seed, c])
        for view in range(views_per_class if own else 0):
            drawing = own[view % len(own)]
            images.append(varied_view(drawing, rng))
            label.append(c)
            split.append(0)
            name.append(f"{drawing.artist}/{drawing.name}/{view}")
    for drawing in (d for d in drawings if d.artist == test_artist):
        images.append(plain_view(drawing))
        label.append(drawing.label)
        split.append(1)
        name.append(f"{drawing.artist}/{drawing.name}")
    if not images:
        return empty_bank()
    return Bank(
        np.stack(images),
        np.asarray(label, np.int32),
        np.asarray(split, np.int32),
        tuple(name),
    )
