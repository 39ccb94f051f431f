import dataclasses
import sys

import pytest

from data_pipelines import fonts


def test_train_font_is_found_without_importing_its_package():
    path = fonts.train_font()
    assert path.name == "TimGM6mb.sf2"
    assert "pretty_midi" not in sys.modules


def test_train_font_that_is_missing_says_how_to_get_it(monkeypatch):
    absent = dataclasses.replace(fonts.TRAIN_FONT, package="no_such_package_here")
    monkeypatch.setattr(fonts, "TRAIN_FONT", absent)
    with pytest.raises(ValueError, match="pip install no_such_package_here"):
        fonts.train_font()
