import numpy as np
import pytest

from data_pipelines import fonts, pictures
from data_pipelines.melodies import INSTRUMENTS

NAMES = tuple(i.name for i in INSTRUMENTS)


@pytest.fixture(scope="module")
def bank(material):
    paths = {source.key: material[source.key] for source in fonts.PICTURES}
    return pictures.make_bank(
        paths, NAMES, test_artist="noto", views_per_class=4, seed=0
    )


def test_artists_are_split(bank):
    artists = np.array([name.split("/")[0] for name in bank.name])
    assert set(artists[bank.split == 1]) == {"noto"}
    assert "noto" not in artists[bank.split == 0]
    assert len(bank.images) == len(bank.label) == len(bank.split) == len(bank.name)


def test_all_classes_but_the_cello_have_training_pictures(bank):
    counts = np.bincount(bank.label[bank.split == 0], minlength=len(NAMES))
    expected = [0 if name == "cello" else 4 for name in NAMES]
    assert counts.tolist() == expected
    assert np.bincount(bank.label[bank.split == 1]).max() == 1


def test_views_differ_and_show_something(bank):
    assert bank.images.shape[1:] == (48, 48, 3)
    assert bank.images.dtype == np.uint8
    assert len({image.tobytes() for image in bank.images}) == len(bank.images)
    assert (bank.images.reshape(len(bank.images), -1).std(1) > 3).all()


def test_a_drawing_is_placed_where_it_should(material):
    body = '<rect x="8" y="0" width="8" height="16" fill="#ff0000"/>'
    drawing = pictures.Drawing("a", "half", 0, body, (0, 0, 16, 16))
    upright = pictures.rasterise(
        pictures._svg(drawing, "#000000", "#0000ff", 0.0, 1.0, False)
    )
    assert (upright[:, 25:] == (255, 0, 0)).all()
    assert (upright[:, :23] == (0, 0, 255)).all()
    mirrored = pictures.rasterise(
        pictures._svg(drawing, "#000000", "#0000ff", 0.0, 1.0, True)
    )
    np.testing.assert_array_equal(mirrored, upright[:, ::-1])
    turned = pictures.rasterise(
        pictures._svg(drawing, "#000000", "#0000ff", 180.0, 1.0, False)
    )
    np.testing.assert_array_equal(turned, upright[::-1, ::-1])


def test_same_seed_same_bank(bank, material):
    paths = {source.key: material[source.key] for source in fonts.PICTURES}
    again = pictures.make_bank(
        paths, NAMES, test_artist="noto", views_per_class=4, seed=0
    )
    np.testing.assert_array_equal(bank.images, again.images)
