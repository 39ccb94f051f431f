"""What a published list asks for: recordings, and how mixtures are made of them."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from data_pipelines.video_lists import Item

HALVED = "halved"
"""Both recordings at half their own level, whatever that is."""

AT_SNR = "snr"
"""The second recording is brought to a stated level below the first."""

STORED = "stored"
"""The second recording is the mixture itself, stored beside its target."""

OTHER_SOUNDS = "other sounds"
"""The class of what a list has no words for."""


class Recording(NamedTuple):
    """One recording that a list asks for.

    Attributes:
      id: Unique name; it never changes with what a user has.
      file: Path of its file; None where any file of the folder will do that is
        named by the item.
      item: The video that it is of. Its crop lies around second
        ``num_frames // 2 - 1/2``; without an item it is the beginning.
    """

    id: str
    file: pathlib.Path | None = None
    item: Item | None = None

    @property
    def num_frames(self) -> int | None:
        """Frames at 1 per second that the list counts."""
        return None if self.item is None else self.item.num_frames


class Planned(NamedTuple):
    """One mixture of a list.

    Attributes:
      id: Its name: the list's and its row's.
      recordings: The target, and what it is mixed with.
      words: What asks for the target.
      other: Label of what it is mixed with.
      snr_db: Level of the target above the other, where the list states it.
    """

    id: str
    recordings: tuple[Recording, Recording]
    words: str
    other: str = OTHER_SOUNDS
    snr_db: float | None = None


class Plan(NamedTuple):
    """A list that was read.

    Attributes:
      mixtures: In the order of the list, with those nobody can make.
      sha256: Of the list: two laboratories with the same one mean the same mixtures.
      where: The list, for messages.
    """

    mixtures: tuple[Planned, ...]
    sha256: str
    where: str


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A published protocol.

    Attributes:
      name: What users call it.
      read: From the user's folder to its plan.
      size: Mixtures of the published list.
      sample_rate_hz: Rate that mixtures are made and scored at.
      mixing: HALVED, AT_SNR or STORED.
      num_samples: Length of a mixture; None takes the longest of the files.
      scored_samples: The beginning of a mixture that is scored; None takes all.
      credit: Whose list it is, and what its licence is.
    """

    name: str
    read: Callable[[pathlib.Path], Plan]
    size: int
    sample_rate_hz: int
    mixing: str
    num_samples: int | None = None
    scored_samples: int | None = None
    credit: str = ""
