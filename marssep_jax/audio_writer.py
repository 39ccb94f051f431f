"""Write recordings whole or not at all.

A file grows under a temporary name in its own folder and gets its name when it is
complete, so an interrupt, an error or a full disk leaves nothing half-written.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from marssep_jax.optional import file_name, import_package, reason_of

# A plain wav header counts bytes in 32 bits.
WAV_LIMIT_BYTES = 4_000_000_000
OUTPUT_FORMATS = {".wav": "WAV", ".flac": "FLAC"}
# Sample formats that a container keeps as they are; others become 16 bit.
KEPT_SUBTYPES = {
    "WAV": {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4},
    "FLAC": {"PCM_16": 2, "PCM_24": 3},
}
FLAC_CHANNELS, FLAC_RATE_HZ = 8, 655_350  # at most
INTEGER_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
# Finer than the container can hold, or than float32 computes: the nearest.
NEAREST_SUBTYPES = {
    "WAV": {"DOUBLE": "FLOAT"},
    "FLAC": {"PCM_32": "PCM_24", "FLOAT": "PCM_24", "DOUBLE": "PCM_24"},
}


def output_subtype(path: str | os.PathLike[str], subtype: str) -> tuple[str, str]:
    """Return the container and the sample format nearest to ``subtype``.

    Raises:
      ValueError: a file name that ends neither in .wav nor in .flac.
    """
    container = OUTPUT_FORMATS.get(Path(path).suffix.lower())
    if container is None:
        raise ValueError(
            f"path is {os.fspath(path)!r}, expected a name in .wav or .flac"
        )
    subtype = NEAREST_SUBTYPES[container].get(subtype, subtype)
    return container, subtype if subtype in KEPT_SUBTYPES[container] else "PCM_16"


def _rounded(rows: np.ndarray, bits: int) -> np.ndarray:
    """Round to the nearest step; libsndfile alone would round downwards."""
    top = 2.0 ** (bits - 1)
    steps = np.clip(np.rint(rows.astype(np.float64) * top), -top, top - 1)
    return (steps.astype(np.int64) << (32 - bits)).astype(np.int32)


class AudioWriter:
    """Write a recording block by block under a temporary name.

    Use as a context manager: the file gets its name when the block ends well and
    vanishes when it does not, so a reader never sees half of it. Samples beyond
    [-1, 1] are kept by FLOAT and clipped by integer formats; ``num_clipped``
    counts these.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate_hz: int,
        num_channels: int,
        subtype: str = "FLOAT",
        num_samples: int = 0,
    ) -> None:
        self.path = Path(path)
        self.num_clipped = 0
        self._num_written = 0
        container, subtype = output_subtype(path, subtype)
        if container == "FLAC" and (
            num_channels > FLAC_CHANNELS or rate_hz > FLAC_RATE_HZ
        ):
            raise ValueError(
                f"output is {str(path)!r}, expected wav for {num_channels} channels at "
                f"{rate_hz} Hz: flac takes {FLAC_CHANNELS} at {FLAC_RATE_HZ}"
            )
        size = num_samples * num_channels * KEPT_SUBTYPES[container][subtype]
        self._settings: dict[str, Any] = {
            "samplerate": rate_hz,
            "channels": num_channels,
            "subtype": subtype,
            # RF64 is wav with 64-bit counts; most readers know it by now.
            "format": "RF64"
            if container == "WAV" and size > WAV_LIMIT_BYTES
            else container,
        }
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._file: Any = None

    def __enter__(self) -> "AudioWriter":
        """Create the folder and the temporary file."""
        soundfile = import_package("soundfile", "writing audio")
        with self._as_os_error():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = soundfile.SoundFile(
                file_name(self._temporary), "w", **self._settings
            )
        return self

    def write(self, block: Float[np.ndarray, "c t"]) -> None:
        """Append samples ``[channels, t]``.

        Raises:
          ValueError: NaN or infinite samples.
          OSError: the disk is full or gone.
        """
        if not np.isfinite(block).all():
            raise ValueError(
                f"estimate for {str(self.path)!r} is not finite, "
                "expected samples below 1e30"
            )
        rows: np.ndarray = np.ascontiguousarray(block.T)
        bits = INTEGER_BITS.get(self._settings["subtype"])
        if bits:
            self.num_clipped += int(np.count_nonzero(np.abs(rows) > 1))
            rows = _rounded(rows, bits)
        with self._as_os_error():
            self._file.write(rows)
        self._num_written += block.shape[1]

    def finish(self) -> None:
        """Close the file and make sure that all of it arrived.

        Call it on several writers before leaving any of them, where their files
        belong together.

        Raises:
          OSError: the disk is full or gone.
        """
        if self._file is None:
            return
        with self._as_os_error():
            file, self._file = self._file, None
            file.close()
            self._verify()

    def __exit__(self, kind: object, *_: object) -> None:
        """Give the file its name, or remove it after an error."""
        try:
            if kind is not None:
                # What went wrong is already on its way up; do not cover it.
                with contextlib.suppress(RuntimeError, OSError):
                    if self._file is not None:
                        self._file.close()
                return
            self.finish()
            with self._as_os_error():
                os.replace(self._temporary, self.path)
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def _verify(self) -> None:
        # libsndfile says nothing when the last bytes do not fit: count them.
        soundfile = import_package("soundfile", "writing audio")
        with open(self._temporary, "rb") as file:
            os.fsync(file.fileno())
        if soundfile.info(file_name(self._temporary)).frames != self._num_written:
            raise RuntimeError("fewer samples arrived than were written")

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, AssertionError, OSError) as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            reason = reason_of(error) or "short write"
            raise OSError(
                f"output is {str(self.path)!r}, expected a place with room to write "
                f"({reason})"
            ) from error
