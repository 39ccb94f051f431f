"""Small stand-ins for what npm carries: drawings and notes made here, one font."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile

from data_pipelines import fonts, pictures


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    """Paths by source key: the installed font as both fonts, our own drawings."""
    folder = tmp_path_factory.mktemp("material")
    paths = {fonts.TRAIN_FONT.key: fonts.train_font()}
    paths[fonts.TEST_FONT.key] = paths[fonts.TRAIN_FONT.key]
    for source in fonts.PICTURES:
        names = {n for own in pictures.DRAWINGS[source.key].values() for n in own}
        icons = {
            name: {
                "body": '<path fill="currentColor" '
                f'd="M2 2h{4 + number % 8}v{4 + number % 5}z"/>'
            }
            for number, name in enumerate(sorted(names))
        }
        path = folder / source.filename
        path.write_text(json.dumps({"icons": icons, "width": 16, "height": 16}))
        paths[source.key] = path
    notice = folder / "notice.txt"
    notice.write_text("Terms of the font.\n")
    return paths | {f"{fonts.TEST_FONT.key}-notice": notice}


@pytest.fixture(scope="session")
def notes(tmp_path_factory, material):
    """Paths of what the wide set needs more: the font again, tones made here."""
    folder = tmp_path_factory.mktemp("notes")
    paths = {fonts.SECOND_FONT.key: material[fonts.TRAIN_FONT.key]}
    for number, source in enumerate(fonts.RECORDED_NOTES.values()):
        path = folder / source.filename
        pack_tones(path, {"A3": 220.0, "As4": 466.16}, second_harmonic=number / 10)
        paths[source.key] = path
    return paths


def pack_tones(path, tones_hz, *, second_harmonic=0.0, silence_s=0.05, rate=22_050):
    """Pack tones of two seconds as mp3 files that are named by their notes."""
    time = np.arange(2 * rate) / rate
    with tarfile.open(path, "w:gz") as archive:
        for name, tone_hz in tones_hz.items():
            phase = 2 * np.pi * tone_hz * time
            wave = 0.5 * np.sin(phase) + 0.5 * second_harmonic * np.sin(2 * phase)
            wave = np.concatenate([np.zeros(round(silence_s * rate)), wave])
            file = io.BytesIO()
            soundfile.write(file, wave, rate, format="MP3")
            info = tarfile.TarInfo(f"package/{name}.mp3")
            info.size = file.tell()
            file.seek(0)
            archive.addfile(info, file)
