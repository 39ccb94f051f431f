"""Damage bytes, words and JSON in the ways that files and people do."""

import json
import random
from typing import Any

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
ODD_VALUES = (None, True, -1, 0, 1e308, -0.5, 2**63, "", "x", [], {}, [[]], "\ud800")
# First and last of blocks: controls, Latin, Greek and Cyrillic, Hebrew and Arabic,
# Indic and Thai, joiners and directions, CJK, Hangul, surrogates, private use, emoji,
# tags.
BLOCKS = (
    (0x01, 0x1F),
    (0x20, 0x24F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0xE7F),
    (0x2000, 0x206F),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xD800, 0xDFFF),
    (0xE000, 0xE0FF),
    (0x1F300, 0x1FAFF),
    (0xE0000, 0xE007F),
)


def damage(raw: bytes, draw: random.Random) -> bytes:
    """Apply one to four mutations to a file; most of them near its head."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        kind = draw.randrange(7)
        if not data:
            data = bytearray(draw.randbytes(draw.randint(1, 64)))
        head = draw.random() < 0.7
        place = draw.randrange(min(len(data), 64) if head else len(data))
        if kind == 0:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[place] = draw.randrange(256)
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            size = draw.choice((1, 2, 4))
            value = draw.choice(EXTREMES) & (256**size - 1)
            data[place : place + size] = value.to_bytes(
                size, draw.choice(("little", "big"))
            )
        elif kind == 4:
            piece = data[place : place + draw.randint(1, 40)]
            data[place:place] = piece * draw.randint(1, 3)
        elif kind == 5:
            del data[place : place + draw.randint(1, 40)]
        else:
            data[place:place] = draw.randbytes(draw.randint(1, 20))
    return bytes(data)


def words(known: list[str], draw: random.Random) -> str:
    """Return words of any script, whole, cut, joined, repeated or made up."""
    kind = draw.randrange(5)
    one = draw.choice(known)
    if kind == 0:
        return one
    if kind == 1:
        cut = draw.randrange(len(one))
        return one[:cut] + draw.choice(known)[cut:]
    if kind == 2:
        return one * draw.choice((2, 50, 3_000))
    if kind == 3:
        return draw.choice("\t\n\r \u3000\u200b\ufeff") * draw.randint(0, 5)
    letters = []
    for _ in range(draw.randint(1, 40)):
        low, high = draw.choice(BLOCKS)
        letters.append(chr(draw.randint(low, high)))
    return "".join(letters)


def damage_json(value: Any, draw: random.Random) -> Any:
    """Change, drop or add one entry somewhere in a JSON value."""
    value = json.loads(json.dumps(value))
    place = value
    while True:
        keys: list[Any] = (
            list(place) if isinstance(place, dict) else list(range(len(place)))
        )
        if not keys:
            break
        key = draw.choice(keys)
        deeper = isinstance(place[key], dict | list) and place[key]
        if deeper and draw.random() < 0.8:
            place = place[key]
            continue
        if draw.random() < 0.2:
            del place[key]
        elif isinstance(place[key], int) and draw.random() < 0.4:
            place[key] = draw.choice((0, 1, -1, 3, 2**31, 2**70))
        else:
            place[key] = draw.choice(ODD_VALUES)
        break
    return value
