import pytest

from experiments.watching import exploitation, headroom, is_exploited


def rows(reward, judge):
    """Six rows of rewards, the judge's score in the first and the last."""
    made = [{"step": n, "reward/mean": value} for n, value in enumerate(reward)]
    for row, score in zip((made[0], made[-1]), judge, strict=True):
        row["eval/judge"] = score
    return made


def test_reward_up_and_judge_down_is_said():
    note = exploitation(rows([0.1, 0.2, 0.2, 0.3, 0.4, 0.5], (-1.0, -1.2)))
    assert note.startswith("the reward rose from 0.150 to 0.450 while the held-out")
    assert "fell from -1.000 to -1.200" in note


@pytest.mark.parametrize(
    ("reward", "judge"),
    [
        ([0.1, 0.2, 0.2, 0.3, 0.4, 0.5], (-1.2, -1.0)),
        ([0.5, 0.4, 0.3, 0.2, 0.2, 0.1], (-1.0, -1.2)),
        ([0.1, 0.2], (-1.0, -1.2)),  # too few rows to compare
    ],
)
def test_anything_else_is_not(reward, judge):
    assert exploitation(rows(reward, judge)) is None


def test_a_supervised_stage_has_no_reward():
    assert exploitation([{"step": 1, "supervised/loss": 0.2}]) is None


def limits(*values):
    names = ("reward/of_mixture", "reward/of_mode", "reward/of_ideal")
    return dict(zip(names, values, strict=True))


def test_headroom_of_a_reward():
    text = headroom(limits(0.1, 0.25, 0.7))
    assert text == (
        "reward of the mixture 0.100, of the start's masks 0.250, of ideal masks 0.700"
    )


@pytest.mark.parametrize("values", [(0.8, 0.25, 0.7), (0.1, 0.75, 0.7)])
def test_a_reward_that_cannot_teach_is_warned_of(values):
    text = headroom(limits(*values))
    assert text.startswith("warning: reward of the mixture")
    assert text.endswith("it does not prefer ideal masks and cannot teach them")


def evaluated(reward, judge, si_sdri):
    """Rows of rewards, every second one with an evaluation."""
    made = [{"step": n, "reward/mean": value} for n, value in enumerate(reward)]
    for row, score, level in zip(made[::2], judge, si_sdri, strict=True):
        row |= {"eval/judge": score, "eval/si_sdri_db": level}
    return made


RISING, FALLING = [0.1, 0.2, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, 0.2, 0.1]


@pytest.mark.parametrize(
    ("reward", "judge", "si_sdri", "exploited"),
    [
        (RISING, (-1.0, -1.2, -1.1), (4.0, 3.5, 3.9), True),
        (FALLING, (-1.0, -1.2, -1.1), (4.0, 3.5, 3.9), False),
        (RISING, (-1.0, -1.2, -1.1), (4.0, 3.5, 4.1), False),
        (RISING, (-1.0, -0.9, -1.1), (4.0, 3.5, 3.9), False),
    ],
)
def test_a_stage_is_stopped_only_if_judge_and_si_sdr_stay_down(
    reward, judge, si_sdri, exploited
):
    assert is_exploited(evaluated(reward, judge, si_sdri)) is exploited


def test_a_supervised_stage_is_never_exploited():
    assert not is_exploited([{"step": 1, "eval/judge": -1.0}] * 4)
