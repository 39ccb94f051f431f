"""Videos of VGGSound and MUSIC that a user has, as TFDS builders."""

import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.catalogue import save_text
from data_pipelines.video_cache import Cache, extract_all
from data_pipelines.video_clips import Clip, read_clips
from data_pipelines.video_decoding import Form
from data_pipelines.video_lists import SPLITS, Item, Lists, read_lists
from data_pipelines.video_sources import Index, Source

VERSION = "1.0.0"
ACCOUNT = "account.json"
Progress = Callable[[str, int], Callable[[int], None]]


def no_progress(name: str, total: int) -> Callable[[int], None]:
    """Tell nobody how far work is."""
    del name, total
    return lambda done: None


@dataclasses.dataclass(eq=False)
class VideosConfig(tfds.core.BuilderConfig):
    """What form the clips get.

    Attributes:
      sample_rate_hz: Sampling rate.
      num_samples: Length of a clip.
      image_size: Side of the square pictures.
    """

    sample_rate_hz: int = 16_000  # omnisep
    num_samples: int = 160_000  # omnisep: 10 s
    image_size: int = 224  # omnisep


FULL = VideosConfig(name="full", description="16 kHz, 10 s, pictures of 224 x 224.")


class Material:
    """What a folder holds of a data set, extracted as far as it can be read.

    Attributes:
      lists: The published lists.
      cache: The extracted videos.
      account: What is there, what is missing, what is unreadable and why.
    """

    def __init__(self, manual_dir: pathlib.Path, builder: "Videos") -> None:
        config = builder.builder_config
        self.dataset, self.manual_dir = builder.name, manual_dir
        self.num_samples, self.whole_videos = config.num_samples, builder.WHOLE
        self._workers, self._progress = builder.workers, builder.progress
        clip_s = (
            None if builder.WHOLE else -(-self.num_samples // config.sample_rate_hz)
        )
        form = Form(config.sample_rate_hz, config.image_size, clip_s)
        name = f"extracted-{form.sample_rate_hz}-{form.image_size}-{clip_s or 'whole'}"
        folder = pathlib.Path(builder._data_dir_root) / builder.name / name
        self.cache, self.account = Cache(folder, form), dict[str, Any]()

    @functools.cached_property
    def lists(self) -> Lists:
        """The published lists."""
        return read_lists(self.manual_dir, self.dataset)

    @functools.cached_property
    def sources(self) -> dict[str, Source]:
        """Where each video of the lists is; missing ones are left out."""
        index = Index(self.manual_dir)
        found = {item.id: index.find(item) for item in self.lists.items}
        return {name: source for name, source in found.items() if source is not None}

    @functools.cached_property
    def class_names(self) -> list[str]:
        """The labels of the lists, in order."""
        return sorted({item.label for item in self.lists.items})

    def extract(self) -> None:
        """Extract what is there, and write the account beside what was extracted.

        Raises:
          ValueError: nothing can be read, or one label only.
          OSError: no room.
        """
        jobs = [self.cache.job(*pair) for pair in self.sources.items()]
        heard = self._progress(f"extract {self.dataset}", len(jobs))
        unreadable, notes = {}, {}
        for outcome in extract_all(jobs, self.cache.form, self._workers, heard):
            if outcome.unreadable:
                unreadable[outcome.id] = outcome.unreadable
            elif outcome.note:
                notes[outcome.id] = outcome.note
        names = [item.id for item in self.lists.items]
        self.account = {
            "dataset": self.dataset,
            "manual_dir": str(self.manual_dir),
            "lists": [str(path) for path in self.lists.files],
            "present": [n for n in names if n in self.sources and n not in unreadable],
            "missing": [n for n in names if n not in self.sources],
            "unreadable": {n: unreadable[n] for n in names if n in unreadable},
            "without_pictures": {n: notes[n] for n in names if n in notes},
            "repeated": self.lists.repeated,
        }
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        save_account(self.account, self.cache.folder)
        self._require_use()

    def _require_use(self) -> None:
        if not self.account["present"]:
            missing, bad = self.account["missing"], self.account["unreadable"]
            first = next((f", the first: {n}: {why}" for n, why in bad.items()), "")
            raise ValueError(
                f"manual_dir is {str(self.manual_dir)!r}, expected readable videos of "
                f"{self.lists.files[0].name} in it: {len(missing)} are missing, "
                f"{len(bad)} unreadable{first}"
            )
        heard = {item.label for split in SPLITS for item in self.items(split)}
        if len(heard) < 2:
            raise ValueError(
                f"manual_dir is {str(self.manual_dir)!r}, expected videos of at "
                f"least 2 labels: all that can be read are {heard.pop()!r}"
            )

    def items(self, split: str) -> list[Item]:
        """Return the videos of a split that were extracted."""
        present = set(self.account["present"])
        return [i for i in self.lists.items if i.split == split and i.id in present]

    def splits(self) -> list[str]:
        """Return the splits of which anything was extracted."""
        return [split for split in SPLITS if self.items(split)]

    def clips(self, split: str) -> Iterator[Clip]:
        """Read the clips of a split, one by one."""
        return read_clips(
            self.items(split),
            self.cache,
            self.num_samples,
            whole_videos=self.whole_videos,
        )


def save_account(account: dict[str, Any], folder: pathlib.Path) -> None:
    """Write an account, whole or not at all."""
    save_text(folder / ACCOUNT, json.dumps(account, indent=1) + "\n")


# A keyword of TFDS's registration, which its types do not show.
class Videos(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """What both builders share.

    Attributes:
      WHOLE: Whether whole videos are cut into clips.
      workers: Processes that extract; None takes the cores.
      progress: Told how far that is.
    """

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [FULL]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "A folder with the published lists, and videos or recordings that are named "
        "by the ids in them, in any folders; python -m experiments.prepare says more."
    )
    WHOLE: ClassVar[bool] = False
    DESCRIPTION: ClassVar[str] = ""
    workers: int | None = None
    progress: Progress = staticmethod(no_progress)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        size = config.image_size
        return self.dataset_info_from_configs(
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(
                        shape=(config.num_samples,),
                        dtype=np.int16,
                        encoding=tfds.features.Encoding.BYTES,
                    ),
                    "frames": tfds.features.Sequence(
                        tfds.features.Image(
                            shape=(size, size, 3), encoding_format="jpeg"
                        )
                    ),
                    "label": tfds.features.Scalar(np.int32),
                    "caption": tfds.features.Text(),
                    "clip_id": tfds.features.Text(),
                }
            ),
        )

    def material(self, manual_dir: pathlib.Path) -> Material:
        """Return what a folder holds of this data set, found on first use."""
        known = self.__dict__.setdefault("_materials", {})
        if manual_dir not in known:
            known[manual_dir] = Material(manual_dir, self)
        return known[manual_dir]

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        material = self.material(pathlib.Path(dl_manager.manual_dir))
        material.extract()
        return {
            split: self._generate_examples(material, split)
            for split in material.splits()
        }

    def _generate_examples(
        self, material: Material, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        labels = {name: number for number, name in enumerate(material.class_names)}
        for clip in material.clips(split):
            yield (
                clip.id,
                {
                    "audio": clip.audio,
                    "frames": [io.BytesIO(frame) for frame in clip.frames],
                    "label": labels[clip.item.label],
                    "caption": clip.item.label,
                    "clip_id": clip.id,
                },
            )


class Vggsound(Videos):
    """TFDS builder ``vggsound``: clips of 10 s, 309 labels."""

    DESCRIPTION = "The clips of VGGSound that a folder holds."


class Music(Videos):
    """TFDS builder ``music``: whole solo performances, cut into clips."""

    WHOLE = True
    DESCRIPTION = "The solo videos of MUSIC that a folder holds, cut into clips."


BUILDERS: dict[str, type[Videos]] = {"vggsound": Vggsound, "music": Music}
