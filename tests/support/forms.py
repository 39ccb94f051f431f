"""Recordings and pictures as bytes, and the form that the web page sends."""

import io
import json

import numpy as np
import soundfile
from PIL import Image


def sound(seconds=0.5, rate_hz=16_000, channels=1, seed=0, kind="WAV", subtype=None):
    """Return a recording of noise."""
    generator = np.random.default_rng(seed)
    rows = generator.uniform(-0.3, 0.3, (round(seconds * rate_hz), channels))
    file = io.BytesIO()
    soundfile.write(file, rows, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def picture(seed=0):
    """Return a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def form(mixture, items, name="song.wav", **settings):
    """Return what httpx needs to send a form; an item is words or ``(kind, bytes)``.

    A third entry of an item has its other keys.
    """
    files, rows = {"mixture": (name, mixture)}, []
    for number, item in enumerate(items):
        if isinstance(item, str):
            item = ("text", item)
        modality, value, *more = item
        row = {"modality": modality}
        if modality == "text":
            row["text"] = value
        else:
            row["file"] = f"item{number}"
            files[f"item{number}"] = (f"{modality}{number}", value)
        rows.append(row | (more[0] if more else {}))
    query = json.dumps({"items": rows, **settings})
    return {"files": files, "data": {"query": query}}
