"""How far an estimate is from its target: plain ratios and BSS-eval, in dB."""

from marssep_jax.metrics.bsseval import (
    BssEval,
    PermutedBssEval,
    bss_eval,
    bss_eval_permuted,
)
from marssep_jax.metrics.ratios import (
    sdr,
    sdr_improvement,
    si_sdr,
    si_sdr_improvement,
)

__all__ = [
    "BssEval",
    "PermutedBssEval",
    "bss_eval",
    "bss_eval_permuted",
    "sdr",
    "sdr_improvement",
    "si_sdr",
    "si_sdr_improvement",
]
