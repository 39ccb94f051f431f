"""What a run keeps on disk, so that it can go on where it stopped."""

from marssep_jax.checkpoint.store import CheckpointStore, Restored
from marssep_jax.checkpoint.workdir import Workdir, open_workdir

__all__ = ["CheckpointStore", "Restored", "Workdir", "open_workdir"]
