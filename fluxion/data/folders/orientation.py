"""How a camera was held: the orientation that EXIF data tell, and JPEG files without such data."""

from __future__ import annotations

import struct

ORIENTATION, SHORT = 0x0112, 3
METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP1 to APP13, APP15 and comments; APP0 and APP14 tell of colours
HEADER_ENDS = {0xDA, 0xFF, 0x01, *range(0xD0, 0xDA)}  # the scan, and markers that no length follows


def orientation(exif: bytes) -> int:
    """From 1 (upright) to 8, as the EXIF standard numbers the eight ways to turn and mirror an image.

    Data that are damaged or say nothing count as upright.

    >>> orientation(b"Exif\\0\\0MM\\0*\\0\\0\\0\\x08\\0\\x01\\x01\\x12\\0\\x03\\0\\0\\0\\x01\\0\\x06\\0\\0")
    6
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (table,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, table)
        for entry in range(table + 2, table + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == ORIENTATION and kind == SHORT:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def without_metadata(jpeg: bytes) -> tuple[bytes, bytes]:
    """A JPEG file without the segments that no decoder of its pixels needs, and its EXIF data (empty if it has none).

    Pillow would parse them, which takes longer than to leave them out, and warn of damage in them.
    """
    kept, exif, place = [jpeg[:2]], b"", 2
    while jpeg[place : place + 1] == b"\xff" and place + 4 <= len(jpeg):
        marker = jpeg[place + 1]
        if marker in HEADER_ENDS:
            break
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        segment = jpeg[place:end]
        if marker not in METADATA:
            kept.append(segment)
        elif segment[4:10] == b"Exif\0\0" and not exif:
            exif = segment[4:]
        place = end
    return b"".join((*kept, jpeg[place:])), exif
