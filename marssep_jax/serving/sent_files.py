"""Files that a visitor has sent.

They are spooled into unnamed temporary files, which the system frees whatever
happens to the program; the names that they come with appear in messages only.
"""

import io
import re
from typing import Any

from starlette.datastructures import UploadFile

from marssep_jax.audio import AudioReader, open_audio
from marssep_jax.serving.limits import Limits


class Upload(io.BufferedIOBase):
    """A file that was sent; its name is for messages, never a path."""

    def __init__(self, part: UploadFile) -> None:
        self._file = part.file
        # The last part alone: some programs send whole paths.
        self.name = re.split(r"[/\\]", part.filename or "")[-1] or "file"

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read again."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes."""
        return self._file.read(-1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer."""
        view = memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def close(self) -> None:
        """Free the file."""
        self._file.close()
        super().close()


def open_recording(file: Upload, name: str, limits: Limits) -> AudioReader:
    """Open a recording that was sent; no more is read of it than its header claims.

    Raises:
      ValueError: not a recording, or too long.
    """
    reader = open_audio(file, name)
    info, label = reader.info, f"{name} is {file.name!r}"
    seconds, values = (
        info.num_samples / info.rate_hz,
        info.num_samples * info.num_channels,
    )
    wrong = ""
    if seconds > limits.length_s:
        wrong = f"expected at most {limits.length_s:g} s, not {seconds:.1f}"
    elif values > limits.num_values:
        wrong = (
            f"expected at most {limits.num_values} samples in all its "
            f"{info.num_channels} channels, not {values}"
        )
    if wrong:
        reader.__exit__()
        raise ValueError(f"{label}, {wrong}")
    return reader
