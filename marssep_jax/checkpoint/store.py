"""Training checkpoints over Orbax: state, settings and position of a run."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from marssep_jax.checkpoint.retention import Retention, patience
from marssep_jax.types import Params

logger = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a checkpoint held; ``provenance`` is empty in those of before."""

    step: int
    state: Any
    config: dict[str, Any]
    position: dict[str, Any]
    provenance: dict[str, Any]


class CheckpointStore:
    """Checkpoints of one run: the latest few, one every so often, and the best.

    Saving copies the arrays and returns; writing goes on in the background.
    Closing, or leaving the ``with`` block, waits for it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 2,
        keep_every: int = 0,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Open or make a folder of checkpoints.

        Args:
          directory: the folder, such as ``workdir/checkpoints``, or a bucket's, such
            as ``gs://bucket/run``.
          keep: how many of the latest stay; two survive damage to the last.
          keep_every: besides, all whose step is a multiple of this stay; 0 is none.
          provenance: written into every checkpoint, such as versions.
        """
        self.directory = _absolute(directory)
        self._keep = Retention(keep, keep_every)
        self.provenance = dict(provenance or {})
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        """Start Orbax on first use: a run that cannot start leaves no folder."""
        if self._manager is None:
            _hush()
            options = ocp.CheckpointManagerOptions(
                preservation_policy=self._keep, async_options=patience()
            )
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        return self._manager

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint."""
        if not self.directory.is_dir():
            return []
        return sorted(self._open().all_steps())

    def save(
        self,
        step: int,
        state: Any,
        config: dict[str, Any],
        position: dict[str, Any],
        *,
        keep_step: int | None = None,
    ) -> None:
        """Save one step; a step that is there already stays as it is.

        Args:
          step: number of the step.
          state: pytree of arrays; typed PRNG keys are kept exactly.
          config: resolved settings of the run.
          position: what the loop needs besides, ready for JSON.
          keep_step: the step that stays besides the latest; this one may be it.

        Raises:
          OSError: no room. What was saved before stays usable.
        """
        manager = self._open()
        if step in manager.all_steps():
            return
        self._keep.step = keep_step
        with self._naming_folder():
            manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    config=ocp.args.JsonSave(config),
                    position=ocp.args.JsonSave(position),
                    provenance=ocp.args.JsonSave(self.provenance),
                ),
            )

    def restore(self, step: int, template: Any) -> Restored:
        """Restore one step.

        Args:
          step: one of ``steps()``.
          template: a state of the same structure, shapes and placement.

        Raises:
          ValueError: no such step, or one that cannot be read.
        """
        found = self._try(step, template)
        if isinstance(found, str):
            raise ValueError(self._unusable(step, found))
        return found

    def restore_latest(self, template: Any) -> Restored | None:
        """Restore the newest step that can be read; None if there is none at all.

        Newer steps that cannot be read are set aside with a warning.

        Raises:
          ValueError: there are checkpoints, but none can be read.
        """
        steps = self.steps()
        damaged: list[tuple[int, str]] = []
        for step in reversed(steps):
            found = self._try(step, template)
            if isinstance(found, Restored):
                for bad, reason in damaged:
                    self._set_aside(bad, step, reason)
                return found
            damaged.append((step, found))
        if damaged:
            raise ValueError(self._unusable(*damaged[0]))
        return None

    def _try(self, step: int, template: Any) -> Restored | str:
        """Restore a step, or say why it cannot be done."""
        _hush()
        try:
            return self._restore(step, template)
        except Exception as error:  # Orbax raises whatever its layers raise
            return _brief(error)

    def _restore(self, step: int, template: Any) -> Restored:
        parts = {name: ocp.args.JsonRestore() for name in ("config", "position")}
        has_provenance = (self.directory / str(step) / "provenance").exists()
        if has_provenance:
            parts["provenance"] = ocp.args.JsonRestore()
        found = self._open().restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(template), **parts),
        )
        _check_like(found.state, template)
        provenance = found.provenance if has_provenance else {}
        return Restored(step, found.state, found.config, found.position, provenance)

    def _unusable(self, step: int, reason: str) -> str:
        return (
            f"checkpoints is {str(self.directory)!r}, expected a readable state of "
            f"this run at step {step} ({reason})"
        )

    def _set_aside(self, step: int, used: int, reason: str) -> None:
        """Move a damaged step out of the way, so that it can be saved again."""
        self.close()
        source = self.directory / str(step)
        place = self.directory.parent / f"damaged_checkpoint_{step}"
        if jax.process_index() == 0:
            if place.exists():
                place.rmtree()
            source.rename(place)
        logger.warning(
            "checkpoint %s cannot be read (%s), going on from step %d; moved to %s",
            source,
            reason,
            used,
            place,
        )

    @contextlib.contextmanager
    def _naming_folder(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of writing in the background: any kind
            raise OSError(
                f"cannot write checkpoints to {self.directory} ({_brief(error)})"
            ) from error

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
          OSError: a write in the background failed.
        """
        if self._manager is not None:
            with self._naming_folder():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing; the store may be used again."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            with self._naming_folder():
                manager.close()

    def __enter__(self) -> "CheckpointStore":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish writing."""
        self.close()


def _absolute(directory: str | os.PathLike[str]) -> epath.Path:
    text = os.fspath(directory)
    return epath.Path(text if "://" in text else os.path.abspath(text))


def _hush() -> None:
    """Keep quiet about reads and writes that were under way when one failed.

    Sooner or later they report to an event loop that is gone, or are dropped
    unread, and Python would print a page about each, Orbax another. There is no
    telling when the last one has, so the hook stays.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_not_orbax)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    before = sys.unraisablehook
    if getattr(before, "hushed", False):
        return

    def hook(report: Any) -> None:
        code = getattr(report.object, "cr_code", None)
        ours = code is not None and "orbax" in code.co_filename
        if not ours and "loop is closed" not in str(report.exc_value):
            before(report)

    hook.hushed = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname and "never retrieved" not in str(record.msg)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


def _check_like(state: Params, template: Params) -> None:
    if str(jax.tree.structure(state)) != str(jax.tree.structure(template)):
        raise ValueError("the state has another structure")
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(template), strict=True)
    for found, wanted in pairs:
        if np.shape(found) != np.shape(wanted) or found.dtype != wanted.dtype:
            raise ValueError(
                f"an array is {found.dtype} {np.shape(found)}, "
                f"not {wanted.dtype} {np.shape(wanted)}"
            )
