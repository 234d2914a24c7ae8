"""Images as items of a dataset: which files are images, and the thumbnails that an atlas keeps of them."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from atlas.errors import BadInput, UsageError
from atlas.images import decode_image, plain_mode

from .base import UNBOUNDED, BadItem, InputLimits, Item, with_label

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

THUMBNAIL_QUALITY = 80
"""Between Pillow's default of 75 and its advice to stay at 95 or below; about 5 kB at 128 x 128."""


def image_item(ordinal: int, key: str, label: object, data: bytes, limits: InputLimits = UNBOUNDED) -> Item | BadItem:
    """The item for an encoded image, or the reason why it is none."""
    if (why := limits.too_large(len(data))) is not None:
        return BadItem(ordinal, key, why)
    most = None if limits is UNBOUNDED else int(min(limits.megapixels, 1e9) * 1e6)
    try:
        image = decode_image(data, most)
    except BadInput as error:
        larger = " (--max-megapixels)" if "pixels; at most" in str(error) else ""
        return BadItem(ordinal, key, f"{error}{larger}")
    return with_label(Item(ordinal, key, None, image, hashlib.sha256(data).hexdigest()), label, limits)


def image_cell_item(
    ordinal: int, key: str, label: object, cell: object, limits: InputLimits = UNBOUNDED
) -> Item | BadItem:
    """The item for an image in a table: its bytes, or the ``{"bytes": ..., "path": ...}`` of Hugging Face.

    The path is not followed: in a downloaded table it names a file of somebody else's machine.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        return BadItem(ordinal, key, "has no bytes of an image")
    return image_item(ordinal, key, label, data, limits)


def pixels_hash(image: Image.Image) -> str:
    """SHA-256 in hex of mode, size and pixels: the content hash of an image that was never encoded."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def thumbnail(image: Image.Image, side: int = 64) -> bytes:
    """An encoded image small enough to keep a million of: PNG or JPEG, told apart by their first bytes.

    An image of at most ``side`` pixels each way is kept as it is, as PNG. A larger one is scaled down, never up and
    never distorted, until it has at most ``2 * side`` pixels each way, and becomes a JPEG.
    """
    if side < 1:
        raise UsageError(f"side is {side}; expected at least 1 pixel")
    small = plain_mode(image).copy()  # `Image.thumbnail` works in place, and the caller's image is not ours
    small.info = {}  # colour profiles and comments would be written too, and can outweigh the pixels
    encoded = io.BytesIO()
    if max(small.size) <= side:
        small.save(encoded, "PNG", optimize=True)
    else:
        small.thumbnail((2 * side, 2 * side))
        small.save(encoded, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return encoded.getvalue()
