"""Small films made here: tones and colours in real containers."""

import fractions

import av
import numpy as np
from PIL import Image

SIZE = 64


def tone(hz, seconds, rate):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def make_video(
    path,
    seconds=3.0,
    *,
    hz=440.0,
    video="libx264",
    audio="aac",
    rate=48_000,
    channels=1,
    fps=10,
    gain=1.0,
    options=None,
):
    """Write a film whose picture number n is grey of value 20 n, a second each.

    ``video`` or ``audio`` None leaves the track out. Of two channels the second is
    silent.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        film = track = None
        if video:
            film = container.add_stream(video, rate=fps)
            film.width, film.height, film.pix_fmt = 2 * SIZE, SIZE, "yuv420p"
            film.codec_context.time_base = fractions.Fraction(1, fps)
        if audio:
            layout = "stereo" if channels == 2 else "mono"
            track = container.add_stream(audio, rate=rate, layout=layout)
        if film:
            for number in range(round(seconds * fps)):
                pixels = np.full((SIZE, 2 * SIZE, 3), 20 * (number // fps), np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = number
                container.mux(film.encode(frame))
            container.mux(film.encode(None))
        if track:
            sound = gain * tone(hz, seconds, rate).astype(np.float32)
            both = np.stack([sound, 0 * sound][:channels])
            resampler = av.AudioResampler(
                format=track.format, layout=layout, rate=rate, frame_size=1_024
            )
            frame = av.AudioFrame.from_ndarray(both, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return path


def make_frames(folder, count):
    """Write extracted frames, number n of grey 20 n."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.full((SIZE, 2 * SIZE, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number + 1:06d}.jpg")
