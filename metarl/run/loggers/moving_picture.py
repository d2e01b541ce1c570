"""A video as an animated GIF, small enough for a browser's list of pictures."""

import io
import itertools
from pathlib import Path

from PIL import Image

from metarl.struct import struct

MOST_FRAMES, WIDEST = 60, 480  # px


@struct
class MovingPicture:
    width: int  # px
    height: int  # px
    data: bytes


def gif(video: Path) -> MovingPicture:
    """Every so many frames of a video, at its speed. Raises: OSError if it can't be read."""
    import imageio_ffmpeg  # Here, for without films nothing needs it.

    frames = imageio_ffmpeg.read_frames(str(video))
    facts = next(frames)
    num = max(1, round(facts["fps"] * facts["duration"]))
    every = -(-num // MOST_FRAMES)
    width, height = facts["size"]
    shrunk = (min(width, WIDEST), max(1, height * min(width, WIDEST) // width))
    pictures = [
        Image.frombytes("RGB", (width, height), frame).resize(shrunk)
        for frame in itertools.islice(frames, 0, None, every)
    ]
    if not pictures:
        raise OSError(f"{video} has no frames")
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=1000 * every / facts["fps"],  # ms
        loop=0,
    )
    return MovingPicture(width=shrunk[0], height=shrunk[1], data=buffer.getvalue())
