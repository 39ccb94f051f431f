"""VGGSound and MUSIC in small: films, recordings and the published lists."""

from tests.support.videos import make_frames, make_video

RATE = 8_000
CLASSES = ("dog barking", "playing violin, fiddle")


def video_id(split, number):
    return f"{split[:2]}-{number:08d}"


def make_folder(home):
    """Write VGGSound in small: 4 films a class and part, and some that are bad."""
    rows = []
    for split, first in (("train", 1), ("test", 100)):
        for number in range(8):
            video, start = video_id(split, first + number), 10 * number
            rows.append(f'{video},{start},"{CLASSES[number % 2]}",{split}')
            path = home / split / f"{video}_{start:06d}.mp4"
            path.parent.mkdir(exist_ok=True, parents=True)
            make_video(path, 2.0, hz=200 + 20 * number + first // 10)
    for name, made in (
        ("gone", None),
        ("nosound", {"audio": None}),
        ("silent", {"gain": 0.0}),
        ("tiny", {"seconds": 0.5, "hz": 777.0}),
    ):
        rows.append(f"{name:-<11},3,dog barking,test")
        if made is not None:
            make_video(home / f"{name:-<11}_000003.mp4", **({"seconds": 2.0} | made))
    rows.append("recorded---,3,dog barking,test")
    audio = {"video": None, "audio": "flac", "hz": 555.0}
    make_video(home / "recorded---_000003.flac", 2.0, **audio)
    rows.append("cut--------,3,dog barking,test")
    path = make_video(home / "cut--------_000003.mp4", 2.0)
    path.write_bytes(path.read_bytes()[:2_000])
    (home / "vggsound.csv").write_text("\n".join(rows) + "\n")
    return home


def make_music(home):
    """Write MUSIC in small: recordings with frames, and lists of the splits."""
    rows = {"train": [], "val": [], "test": []}
    for label, hz in (("cello", 200), ("flute", 600)):
        for number, split in enumerate(("train", "val", "test")):
            video = f"{label[0]}{number:010d}"
            path = home / "audio" / label / f"{video}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = {"video": None, "audio": "pcm_s16le", "rate": RATE}
            make_video(path, 7.25 + number, hz=hz + 10 * number, **sound)
            make_frames(home / "frames" / label / video, 8 + number)
            rows[split].append(f"x/{label}/{video}.wav,y,{8 + number}")
    for split, own in rows.items():
        (home / f"{split}.csv").write_text("\n".join(own) + "\n")
    return home
