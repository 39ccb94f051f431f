"""Presets keep what their names promise."""

from marssep_jax.presets import PAPER, PATHWISE, PRESETS, TRUST_REGION


def test_presets_say_what_they_are():
    assert (PAPER.group_size, PAPER.inner_epochs, PAPER.old_refresh) == (1, 1, 1)
    assert (PAPER.advantage, PAPER.baseline_decay) == ("moving_average", 0.92)
    assert (PAPER.entropy_coef, PAPER.kl_old_coef) == (0.1, 0.01)
    assert TRUST_REGION.group_size >= 4
    assert TRUST_REGION.inner_epochs > 1
    assert TRUST_REGION.kl_ref_coef > 0
    assert (PATHWISE.estimator, PATHWISE.group_size) == ("pathwise", 1)
    assert min(PATHWISE.signal_coef, PATHWISE.supervised_coef) > 0
    named = {"paper": PAPER, "trust_region": TRUST_REGION, "pathwise": PATHWISE}
    assert named == PRESETS
