"""Texts that are too long for the model: cut where a reader would pause, and joined again.

Theory of operation. The provider is the judge of what is too long: a text that it refused as such,
alone. How much will do is estimated (by the numbers that the server named, else by 4 bytes a token)
and put to the same judge: what is refused again is made shorter. So where a text is cut depends on
nothing but the text and what was said to it alone, and a run that is killed and goes on cuts as it
did before; also where another estimate is made by then, as the first is kept with the sections.

A *section* is a stretch of such a text. Of `truncate` there is one, asked for under the text's own
key. Of `mean` there are many, each with a key of its own, kept like any answer and so paid once;
the last of them to come brings the mean, which is kept under the key of the text.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from unicodedata import category

import numpy as np

from batchembed.embed.answers import checked
from batchembed.embed.parties import Sections
from batchembed.embed.verdicts import Facts, Long, Part, Section, Verdict, Vouched
from batchembed.exchange import Control, Reject, Request
from batchembed.extent import Extent, Piece
from batchembed.spec import KEY_BYTES

LIKELY = 4  # bytes a token
APART = 6  # bytes a token: a passage of plain language that the model reads has fewer
SHORTER = {"truncate": 0.8, "mean": 0.5}  # of what was too long once more
JOINER = "\u200d"
AM = "\u0e33\u0eb3"  # vowels of Thai and Lao that are no marks by their category
NOTHING = 1e-4  # of the length of its sections: a mean that is shorter has no direction
LEAST = 8  # characters: what is refused at this length is not too long
PAUSES = (("\n\n",), ("\n",), (". ", "! ", "? ", "。", "！", "？"), (" ",))  # noqa: RUF001 - signs


def apart(requests: list[Request], facts: Facts) -> list[Request]:
    """Return requests with what is too long, most likely, alone: no neighbour is refused with it.

    What is too long all the same is found by halving, which costs refused calls.
    """
    if facts.on_long_text == "reject":
        return requests
    most = (facts.tokens_per_text or 0) * APART
    return [part for one in requests for part in _apart(one, most, facts.room)]


def alone(requests: list[Request], tokens_per_text: int) -> list[Request]:
    """Return requests with each text of more than `tokens_per_text`, most likely, by itself."""
    return [part for one in requests for part in _apart(one, tokens_per_text * APART)]


def _apart(
    request: Request, most: int, room: Callable[[bytes], int | None] = lambda _: None
) -> list[Request]:
    """Return a request with what has more bytes than `most` (0: not known), or sections, alone."""
    likely = [
        bool((most and len(text.encode()) > most) or room(bytes(key)))
        for text, key in zip(request.texts, request.keys, strict=True)
    ]
    inner = [at for at in range(1, len(request)) if likely[at] or likely[at - 1]]
    bounds = [0, *inner, len(request)]
    return [request.part(start, stop) for start, stop in pairwise(bounds)]


def shortened(part: Part, facts: Facts, share: float | None = None) -> tuple[Part, ...]:
    """Return what is asked in place of one text that is too long; () where nothing can be.

    `share` is how much of it would have passed, where the server said so.
    """
    request, section = part.request, part.section
    if facts.on_long_text == "reject" or request.prompts is not None:
        return ()
    long = section.long if section else Long(request)
    start, stop = (section.start, section.stop) if section else (0, len(request.texts[0]))
    known = None if section or facts.on_long_text != "mean" else facts.room(long.key)
    most = known or _room(long.text[start:stop], facts, share, again=section is not None)
    long.room = long.room or most
    if most < LEAST:
        return ()
    if facts.on_long_text == "truncate":
        end = _pause(long.text, 0, most, least=most * 9 // 10)
        cut = [] if long.text[:end].isspace() else [Section(long, 0, end)]
    else:
        spans = _spans(long.text, start, stop, most)
        cut = [Section(long, a, b) for a, b in spans if not long.text[a:b].isspace()]
    long.open += len(cut) - (section is not None)
    return tuple(Part(_asked(one, facts), section=one) for one in reversed(cut))


def known(part: Part, facts: Facts, sections: Sections) -> Verdict | None:
    """Return what follows for a part without asking: it is paid for, or not wanted; else None.

    A text whose sections are kept was too long before: it is cut as it was then.
    """
    section = part.section
    if section is None:
        under_way = len(part.request) == 1 and facts.room(bytes(part.request.keys[0]))
        again = shortened(part, facts) if under_way else ()
        return Verdict(again=again) if again else None
    if section.long.dropped:
        return Verdict()
    if facts.on_long_text == "truncate":
        return None
    found = sections.get(section.long.key, _key(section))
    if found is None:
        return None
    vector, tokens = found
    return _with(section, Vouched(part.request.keys, vector, tokens, ""), facts, Verdict())


def followed(part: Part, verdict: Verdict, facts: Facts) -> Verdict:
    """Return a verdict on a section as one on its text: what it brings, or why it has none."""
    section = part.section
    if section is None:
        return verdict
    if verdict.rejects:
        section.long.dropped = True
        return replace(verdict, rejects=(_of_the_text(section, verdict.rejects[0]),))
    if verdict.keep is None:
        again = [one if one.section else replace(one, section=section) for one in verdict.again]
        return replace(verdict, again=tuple(again))
    if facts.on_long_text == "truncate":
        extent = Extent(len(section.long.text), section.stop, 1)
        return replace(verdict, keep=replace(verdict.keep, extent=extent))
    keep = replace(verdict.keep, section_of=Piece(section.long.key, section.long.room))
    return _with(section, keep, facts, replace(verdict, keep=keep))


def _with(section: Section, kept: Vouched, facts: Facts, verdict: Verdict) -> Verdict:
    """Return `verdict` with the mean, if this was the last section that it waited for."""
    long = section.long
    long.found[section.start] = kept
    long.open -= 1
    if long.open:
        return verdict
    every = [long.found[start] for start in sorted(long.found)]
    weights = np.array([_weight(one) for one in every], np.float64)
    rows = np.concatenate([one.vectors for one in every]).astype(np.float64)
    mean = (weights @ rows / weights.sum()).astype(np.float32)[None]
    vectors, good = checked(mean, normalize=facts.normalize, joined=facts.joined)
    long.dropped = True
    if not good.all() or np.linalg.norm(mean) < NOTHING * np.linalg.norm(rows, axis=1).max():
        message = f"the mean of its {len(every)} sections has no direction"
        return replace(verdict, rejects=(Reject(long.key, "bad_vector", message),))
    last = next((one for one in reversed(every) if one.model_version), kept)
    whole = replace(
        last,
        keys=long.request.keys,
        vectors=vectors,
        tokens=0,
        rows=long.request.rows,
        section_of=None,
        extent=Extent(len(long.text), len(long.text), len(every)),
    )
    return replace(verdict, joined=whole)


def _weight(section: Vouched) -> int:
    """Return what a section counts for in the mean: its tokens."""
    return max(1, section.tokens)


def _of_the_text(section: Section, reject: Reject) -> Reject:
    where = f"characters {section.start} to {section.stop}: " if section.start else ""
    return replace(reject, key=section.long.key, message=where + reject.message)


def _room(text: str, facts: Facts, share: float | None, *, again: bool) -> int:
    """Return how many characters of a text that is too long may do, less than all."""
    least = len(text) - 1
    if share is not None:
        return min(least, int(len(text) * share * 0.95))
    fits = (facts.tokens_per_text or 0) * LIKELY
    size = len(text.encode())
    if again or not 0 < fits < size:
        return min(least, int(len(text) * SHORTER[facts.on_long_text]))
    return min(least, len(text) * fits // size)


def _spans(text: str, start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of at most `most` characters that make up [start, stop)."""
    while stop - start > most:
        end = _pause(text, start, start + most, least=start + most // 2)
        yield start, end
        start = end
    yield start, stop


def _pause(text: str, start: int, stop: int, *, least: int) -> int:
    """Return where a reader would pause best, in (least, stop]; else where no sign is torn."""
    for marks in PAUSES:
        if (end := max(_after(text, mark, least, stop) for mark in marks)) > least:
            return end
    end = stop
    while end > max(start + 1, least) and _joined(text, end):
        end -= 1
    return end


def _after(text: str, mark: str, least: int, stop: int) -> int:
    at = text.rfind(mark, least, stop)
    return at + len(mark) if at >= 0 else -1


def _joined(text: str, at: int) -> bool:
    """Return whether what stands at `at` belongs to the sign before it."""
    if at >= len(text):
        return False
    sign, before = text[at], text[at - 1]
    mark = category(sign)[0] == "M" or sign == JOINER or "\U0001f3fb" <= sign <= "\U0001f3ff"
    return (
        mark
        or before == JOINER
        or "\u1160" <= sign <= "\u11ff"
        or sign in AM
        or before + sign == "\r\n"
    )


def _asked(section: Section, facts: Facts) -> Request:
    """Return the request for a section. Controls count from its start, and end with it."""
    long, whole = section.long, section.long.request
    text = long.text[section.start : section.stop]
    controls: tuple[tuple[Control, ...], ...] | None = None
    if whole.controls is not None and (within := _within(whole.controls[0], section)):
        controls = (within,)
    cut = facts.on_long_text == "truncate"
    key = np.frombuffer(_key(section), np.uint8).reshape(1, KEY_BYTES)
    return replace(
        whole,
        keys=whole.keys if cut else key,
        texts=(text,),
        controls=controls,
        tokens=max(1, -(-len(text.encode()) // LIKELY)),
        rows=whole.rows if cut else None,
    )


def _within(controls: Sequence[Control], section: Section) -> tuple[Control, ...]:
    found = []
    for control in controls:
        start = max(control.start, section.start)
        stop = min(control.start + control.length, section.stop)
        if stop > start:
            found.append(replace(control, start=start - section.start, length=stop - start))
    return tuple(found)


def _key(section: Section) -> bytes:
    """Return the key of a section: no text has it, as it is a hash of a key and two numbers."""
    where = struct.pack("<qq", section.start, section.stop)
    seed = b"batchembed section\n" + section.long.key + where
    return hashlib.blake2b(seed, digest_size=KEY_BYTES).digest()
