"""Small stand-ins for what npm carries: drawings made here, the font twice."""

import json

import pytest

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
