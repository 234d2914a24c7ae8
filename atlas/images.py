"""How the bytes of a user's image become pixels: the one way, for ingesting it and for asking about it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from .errors import BadInput

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""The decoders that may see a user's bytes: those of the suffixes, whichever of them a file bears. Pillow has others,
one of which runs a program (EPS)."""

STRIP_ROWS = 256

_BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's plugins raise on broken files; it documents only the first, the others were met by flipping bytes."""


def decode_image(data: bytes, most_pixels: int | None = None) -> Image.Image:
    """The pixels of an encoded image, upright (EXIF orientation applied), in mode L or RGB; the first of many frames.

    Raises `BadInput`, without a name since bytes have none, for anything that does not decode to the last row: no
    image, a truncated one, one of more pixels than ``most_pixels`` or ``PIL.Image.MAX_IMAGE_PIXELS``, or one without
    a fixed range.
    """
    if not data:
        raise BadInput("is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF, which is harmless, and of size, which is checked below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _refuse_bomb(image.size, most_pixels)
                return plain_mode(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        raise BadInput("is no JPEG, PNG, WebP, BMP, GIF or TIFF image, or its header is damaged") from error
    except _BROKEN_IMAGE as error:
        raise BadInput(f"does not decode: {error}") from error


def _refuse_bomb(size: tuple[int, int], most: int | None) -> None:
    """Pillow itself only warns up to twice its limit."""
    if most is not None and size[0] * size[1] > most:
        raise BadInput(f"has {size[0]} x {size[1]} pixels; at most {most:,} are read here: scale it down")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise BadInput(f"has {size[0]} x {size[1]} pixels; at most {limit} are decoded (PIL.Image.MAX_IMAGE_PIXELS)")


def plain_mode(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, 8 bits a channel.

    What is transparent is laid on white, as a browser shows it: the colours under it are arbitrary. 16-bit grey is
    divided by 257, which maps 65535 to 255. Raises `BadInput` for 32-bit pixels, whose range is nowhere stated.
    """
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        image.load()  # `convert` decodes by itself
        return image
    if image.mode.startswith("I;16"):
        return _by_strips(image, "L", _of_16_bits)
    if image.mode in ("I", "F"):
        raise BadInput(f"has 32-bit pixels (mode {image.mode}) without a stated range; save it with 8 bits a channel")
    if image.has_transparency_data:
        return _by_strips(image, "RGB", _on_white)
    return image.convert("L" if image.mode == "1" else "RGB")


def _by_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image converted some rows at a time, so that nothing but it and the result is ever whole."""
    image.load()
    made = Image.new(mode, image.size)
    for top in range(0, image.height, STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))
        strip.info = image.info  # says which colour is transparent
        made.paste(convert(strip), (0, top))
    return made


def _of_16_bits(strip: Image.Image) -> Image.Image:
    return Image.fromarray(np.rint(np.asarray(strip).astype(np.float32) / 257).astype(np.uint8))


def _on_white(strip: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA")).convert("RGB")
