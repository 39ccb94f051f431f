"""Take steps on some cores and say how long they took; `measured` starts it."""

import json
import os
import time

from absl import flags

from experiments import command, hosts


def main() -> None:
    """Time the step that the flags name; process 0 prints seconds as JSON."""
    values = flags.FLAGS
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in values.cores])
    with hosts.joined():
        import jax

        seconds = time_steps(values.step, values.rounds, quick=values.quick)
        if jax.process_index() == 0:
            print(json.dumps(seconds))


def time_steps(name: str, rounds: int, *, quick: bool) -> list[float]:
    """Return seconds of each step after the first, which compiles."""
    import jax
    import numpy as np

    from experiments.scaling import measured, steps
    from marssep_jax import sharding

    mesh = sharding.make_data_mesh()
    built = steps.build(measured.step(name, quick=quick), jax.process_count())
    key = jax.random.key(0)
    fixed, state = jax.jit(built.init)(key)
    fixed, state = (sharding.place_state(tree, mesh) for tree in (fixed, state))
    count = len(mesh.local_devices)
    draw = np.random.default_rng(jax.process_index())

    def local(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        shape = (leaf.shape[0] // jax.process_count() * count, *leaf.shape[1:])
        return (0.1 * draw.standard_normal(shape)).astype(leaf.dtype)

    batch = jax.tree.map(local, built.batch)
    update = sharding.data_parallel(built.update, mesh, fixed)
    found: list[float] = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))
        found.append(time.perf_counter() - begun)
    return found[1:]


if __name__ == "__main__":
    flags.DEFINE_string("step", None, "Which.", required=True)
    flags.DEFINE_list("cores", ["0"], "Numbers of the cores to run on.")
    flags.DEFINE_integer("rounds", 3, "Steps that are timed.")
    flags.DEFINE_bool("quick", False, "Small sizes.")
    hosts.define_flags()
    command.run(main)
