"""BSS-eval of a batch against mir_eval, pair by pair."""

import warnings

import jax
import numpy as np

from experiments.benchmarks.rows import Row, ratio_row, require_same
from experiments.benchmarks.timing import alternate
from marssep_jax.metrics import BssEval, bss_eval

NAMES = ("metrics.bss_eval_vs_mir_eval",)

NUM_PAIRS, SECONDS, RATE_HZ = 64, 4.0, 16_000
# mir_eval takes one pair at a time, each as long as the others: some stand for all.
REFERENCE_PAIRS = 8
LARGEST_DIFFERENCE_DB = 0.05


def measure(tiny: bool) -> list[Row]:
    """Evaluate pairs of estimates that leak into each other."""
    # Imported first: without it there is nothing to compare with.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mir_eval.separation import bss_eval_sources

    num_pairs, reference_pairs = (2, 1) if tiny else (NUM_PAIRS, REFERENCE_PAIRS)
    num_samples = int((0.25 if tiny else SECONDS) * RATE_HZ)
    draw = np.random.default_rng(0)
    target = draw.standard_normal((num_pairs, 2, num_samples)).astype(np.float32)
    noise = draw.standard_normal(target.shape).astype(np.float32)
    estimate = target + 0.3 * target[:, ::-1] + 0.1 * noise
    placed = jax.device_put((estimate, target))

    def reference() -> list[tuple[np.ndarray, ...]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it will be moved
            return [
                bss_eval_sources(target[i], estimate[i], compute_permutation=False)[:3]
                for i in range(reference_pairs)
            ]

    def ours() -> BssEval:
        return bss_eval(placed[0], placed[1], variant="sources")

    found = np.stack(ours(), axis=1)[:reference_pairs]
    difference = float(np.abs(found - np.asarray(reference())).max())
    require_same(NAMES[0], difference, LARGEST_DIFFERENCE_DB, " dB")
    times = alternate({"ours": ours, "reference": reference}, 1 if tiny else 4)
    return [
        ratio_row(
            NAMES[0],
            times["ours"],
            f"mir_eval.separation.bss_eval_sources, {num_pairs} pairs from "
            f"{reference_pairs}",
            times["reference"].over(reference_pairs / num_pairs),
            target=30.0,
            largest_difference_db=difference,
        )
    ]
