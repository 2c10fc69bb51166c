"""Damage files by a seed: what happens to them, and what somebody might do to them."""

import io
import json
import re
import struct
import zipfile
import zlib

MOST = 1 << 20
"""Bytes of a damaged file; an entry of an archive may unpack to four times as many."""

ABSURD = (0, 1, -1, 255, 256, 2**15, 2**16 - 1, 2**20, 2**24, 2**31 - 1, 2**32 - 1)
ABSURD += (2**40, 2**62, 2**63 - 1, 2**64 - 1)
NUMBERS = (b"0", b"-1", b"1", b"65536", b"99999999", b"4294967296", b"1e308", b"NaN")
NUMBERS += (b"9" * 30, b"9" * 5000, b"1e-9", b"Infinity", b"")
PNG = b"\x89PNG\r\n\x1a\n"


def mutate(data, random, others=()):
    """Damage a file.

    Args:
        data: Its bytes.
        random: A generator of NumPy.
        others: Other files of its kind, which parts may be taken from.
    """
    if data[:2] == b"PK" and random.random() < 0.7:
        data = _within_zip(data, random)
    elif data.startswith(PNG) and random.random() < 0.6:
        return _within_png(data, random)[:MOST]
    elif data[8:9] == b"{" and random.random() < 0.7:
        return _within_safetensors(data, random)[:MOST]
    elif data[:1] in (b"{", b"[") and random.random() < 0.7:
        return _within_json(data, random)[:MOST]
    elif data.startswith(b"<annotation>") and random.random() < 0.7:
        return _within_xml(data, random)[:MOST]
    else:
        data = _raw(data, random, others)
    return data[:MOST]


def _raw(data, random, others=(), most=MOST):
    for _ in range(int(random.integers(1, 4))):
        if not data:
            break
        if others and random.random() < 0.05:
            other = others[int(random.integers(len(others)))]
            data = data[: _place(data, random)] + other[_place(other, random) :]
        else:
            change = CHANGES[int(random.integers(len(CHANGES)))]
            data = change(data, random)[:most]
    return data


def _place(data, random):
    # Headers decide most, and stand at the beginning or at the end.
    size = max(len(data), 1)
    near = min(size, 200)
    where = random.random()
    if where < 0.4:
        return int(random.integers(near))
    return size - 1 - int(random.integers(near if where < 0.5 else size))


def _block(data, random):
    first = _place(data, random)
    length = int(random.choice([1, 2, 4, 8, 16, 64, 256, 4096]))
    return first, min(first + length, len(data))


def _bits(data, random):
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 9))):
        changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _extremes(data, random):
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        changed[_place(data, random)] = int(random.choice([0, 1, 127, 128, 254, 255]))
    return bytes(changed)


def _cut(data, random):
    return data[: _place(data, random)]


def _cut_out(data, random):
    first, last = _block(data, random)
    return data[:first] + data[last:]


def _zeros(data, random):
    first, last = _block(data, random)
    return data[:first] + bytes(last - first) + data[last:]


def _splice(data, random):
    first, last = _block(data, random)
    place, block = _place(data, random), data[first:last]
    kept = place if random.random() < 0.5 else place + len(block)
    return data[:place] + block + data[kept:]


def _repeat(data, random):
    first, last = _block(data, random)
    times = int(2 ** random.uniform(1, 20))
    times = min(times, 4 * MOST // max(last - first, 1))
    return data[:last] + data[first:last] * times + data[last:]


def _integer(data, random):
    place, width = _place(data, random), int(random.choice([1, 2, 4, 8]))
    value = ABSURD[int(random.integers(len(ABSURD)))] % 256**width
    order = str(random.choice(["little", "big"]))
    return data[:place] + value.to_bytes(width, order) + data[place + width :]


def _digits(data, random):
    found = list(re.finditer(rb"[0-9][0-9.e+-]*", data[:50_000]))
    if not found:
        return _integer(data, random)
    match = found[int(random.integers(len(found)))]
    number = NUMBERS[int(random.integers(len(NUMBERS)))]
    return data[: match.start()] + number + data[match.end() :]


def _append(data, random):
    return data + random.bytes(int(random.integers(1, 300)))


CHANGES = (_bits, _bits, _extremes, _cut, _cut_out, _zeros, _splice, _repeat)
CHANGES += (_integer, _integer, _digits, _append)


def _within_zip(data, random):
    """Damage an entry, packed anew, so that all sums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError):
        return _raw(data, random)
    name = sorted(entries)[int(random.integers(len(entries)))]
    pickles = [name for name in entries if name.endswith(".pkl")]
    if pickles and random.random() < 0.7:
        name = pickles[0]
    action = random.random()
    if action < 0.1:
        del entries[name]
    elif action < 0.2:
        entries[str(random.choice(["../x.npy", "/x.npy", "x" * 5000, ""]))] = b"x"
    else:
        entries[name] = _raw(entries[name], random, most=4 * MOST)
    method = zipfile.ZIP_DEFLATED if random.random() < 0.6 else zipfile.ZIP_STORED
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name or "x", content)
    return stream.getvalue()


def _within_png(data, random):
    """Damage a chunk, with the right sum."""
    chunks, place = [], len(PNG)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 :][:length]))
        place += length + 12
    which = int(random.integers(len(chunks)))
    kind, content = chunks[which]
    action = random.random()
    if action < 0.15:
        chunks += [chunks[which]] * int(2 ** random.uniform(0, 8))
    elif action < 0.25:
        del chunks[which]
    elif kind == b"IDAT" and which and chunks[which - 1][0] != b"IDAT" and action < 0.6:
        # The first of several holds a part only.
        plain = zlib.decompressobj().decompress(content)
        plain = _raw(plain, random, most=4 * MOST)
        chunks[which] = kind, zlib.compress(plain)
    else:
        chunks[which] = kind, _raw(content, random)
    return PNG + b"".join(
        struct.pack(">I", len(content)) + kind + content + _sum(kind + content)
        for kind, content in chunks
    )


def _sum(data):
    return struct.pack(">I", zlib.crc32(data))


def _within_safetensors(data, random):
    """Damage the header, with the right length."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    change = _within_json if random.random() < 0.6 else _raw
    header = change(header.rstrip(b" "), random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _within_json(data, random):
    """Put something else in the place of a value, or of a name."""
    try:
        document = json.loads(data)
    except ValueError:
        return _raw(data, random)
    places = []
    _list_places(document, places)
    for _ in range(int(random.integers(1, 3))):
        if not places:
            break
        holder, key = places[int(random.integers(len(places)))]
        action = random.random()
        if action < 0.15 and isinstance(holder, dict):
            holder.pop(key, None)
        elif action < 0.25 and isinstance(holder, dict):
            holder[f"{key}\x1b[31m"] = holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = _value(random)
    text = json.dumps(document)
    if random.random() < 0.1:
        text = text.replace("[]", "[" * 100_000)
    return text.encode()


def _within_xml(data, random):
    """Put something else in the place of a text or an element, and keep its tags."""
    spans = [match.span(2) for match in re.finditer(rb"<(\w+)>(.*?)</\1>", data[6:])]
    spans += [match.span(1) for match in re.finditer(rb">([^<>]+)<", data)]
    first, last = spans[int(random.integers(len(spans)))]
    inner = b"<!DOCTYPE a [<!ENTITY a 'b'>]>", b"&a;", b"<object>" * 30_000, b"\x00"
    inner += b"<bndbox>", b"<object/>" * 50_000, b"<![CDATA[9]]>", b"&#x10ffff;" * 500
    inner += (*NUMBERS, data[first:last] * int(2 ** random.uniform(0, 12)))
    return data[:first] + inner[int(random.integers(len(inner)))] + data[last:]


def _list_places(document, places):
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        places.append((document, key))
        if isinstance(value, dict | list):
            _list_places(value, places)


def _value(random):
    values = (None, True, -1, 0, 10**400, 2**63, 1e308, float("nan"), float("-inf"))
    values += ("", "x" * 20_000, "\ud800", "\x1b[31m\n", "../../x", "[]", "1", 0.5)
    values += ([], {}, [[]] * 20_000, {"a": {}}, [1, 2, 3], ["a"], list(range(50)))
    return values[int(random.integers(len(values)))]
