"""Write a trained model again in half the room, as the model of the package is.

Example:
  python -m experiments.shrink --checkpoint=runs/pretrained --output=runs/packaged

Parameters are kept at half precision and are float32 again when they are read.
"""

import hashlib

from absl import flags

from experiments import command

CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "The model: a folder or a name.", required=True
)
OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to write; a model there is replaced.", required=True
)


def main() -> None:
    """Shrink the model that the flags name."""
    from marssep_jax.bundle import ARRAYS, load_bundle, resolve_bundle, save_bundle

    save_bundle(OUTPUT.value, load_bundle(resolve_bundle(CHECKPOINT.value)), half=True)
    raw = (resolve_bundle(OUTPUT.value) / ARRAYS).read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    print(f"{OUTPUT.value}: {len(raw) / 1e6:.1f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    command.run(main)
