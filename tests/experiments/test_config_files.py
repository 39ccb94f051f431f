"""Config files that users write: every broken one is named, with what is wrong."""

import pytest

from experiments.config_files import check_flag, load_config_function

GOOD = """
from experiments.settings import default_config
def get_config(stage="supervised"):
    config = default_config()
    config.name = stage
    return config
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def get_config(:", "expected one that runs (SyntaxError: invalid syntax"),
        ("import nowhere", "expected one that runs (ModuleNotFoundError: No module"),
        ("get_config = 3", "expected get_config(stage) in it"),
        ("def get_config(stage=''):\n  return 1 / 0", "(ZeroDivisionError: division"),
        ("def get_config(stage=''):\n  return {}", "expected a ConfigDict from its"),
        ("def get_config(stage=''):\n  raise ValueError('no')", "that runs (no)"),
    ],
)
def test_broken_files(tmp_path, text, expected):
    path = tmp_path / "mine.py"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match="expected") as caught:
        load_config_function(str(path))("supervised")
    assert str(caught.value).startswith(f"config is {str(path)!r}, expected ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("form", ["--config={}", "--config {}", "--config={}:policy"])
def test_command_line(tmp_path, form):
    path = tmp_path / "mine.py"
    argv = ["--workdir=here", *form.format(path).split(), "--config.name=x"]
    with pytest.raises(ValueError, match=r"mine.py', expected a Python file"):
        check_flag(argv)
    path.write_text(GOOD)
    check_flag(argv)
    assert load_config_function(str(path))("policy").name == "policy"


def test_command_line_without_config():
    check_flag(["--workdir=here", "--config.name=x"])
