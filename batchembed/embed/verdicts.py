"""What the hot loop judges by, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from batchembed.errors import BatchembedError
from batchembed.exchange import Keys, Reject, Request, RowNumbers, Vectors
from batchembed.extent import Extent, Piece
from batchembed.prompts import image_bytes

Blamed: TypeAlias = Literal["texts", "size", "time"]
REFUSED_IN_ROW = 2  # after so many, the next refusal asks whether anything would pass


@dataclass(slots=True)
class Cut:
    """A request that was too large as a whole. When both halves pass, its size was the reason.

    `texts` and `bytes` are those of the larger half; `by` says which of them was too much, or that
    it took too much time, which either may.
    """

    by: Blamed
    texts: int
    bytes: int
    passed: int = 0


@dataclass(slots=True)
class Long:
    """A text that is too long, on its way to a vector: the one text of `request`.

    `open` sections have no vector yet, `found` ones stand there by their start. `room`: so many
    characters were tried at first. `dropped`: no section of it is wanted any more.
    """

    request: Request
    room: int = 0
    open: int = 0
    found: dict[int, Vouched] = field(default_factory=dict)
    dropped: bool = False

    @property
    def text(self) -> str:
        """The text."""
        return self.request.texts[0]

    @property
    def key(self) -> bytes:
        """Its key."""
        return bytes(self.request.keys[0])


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a text that is too long: its characters in [start, stop)."""

    long: Long
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Part:
    """A request, or what is left of one, and what happened to it so far.

    `alone`: asked by itself because an earlier answer was doubtful. `failures`: how often it was
    unavailable while other requests were answered; `answers` is how many were at the last time,
    `tries` how often it was unavailable at all. `held`: what it was answered before, together with
    a text that differs little; it is paid for, and lost (asked again) when the run ends now.
    `tears` is how often its answer was torn; `cut` is what it is one half of,
    `section` what it is of a text that is too long.
    """

    request: Request
    alone: bool = False
    failures: int = 0
    answers: int = 0
    tries: int = 0
    held: Vouched | None = None
    tears: int = 0
    cut: Cut | None = None
    section: Section | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the run knows when it judges: answers so far, a harmless text's too, the dimension.

    `folds`: it is proven that the server gives one vector to texts that differ little.
    `refusals` were told in a row, with no answer in between. `joined`: each row's vector is joined
    of so many, whose names `outputs` are, once known. `on_long_text` says what becomes of a text
    that is too long, `tokens_per_text` how many the model reads, if that is known, and `room` how
    many characters at once were first tried of one whose sections are kept, by its key.
    """

    answers: int
    dimensions: int | None
    normalize: bool
    folds: bool = False
    refusals: int = 0
    joined: int = 1
    outputs: tuple[str, ...] = ()
    on_long_text: str = "reject"
    tokens_per_text: int | None = None
    room: Callable[[bytes], int | None] = lambda _: None

    @property
    def begins(self) -> bool:
        """Whether nothing has passed yet, not even a harmless text."""
        return not self.answers

    @property
    def doubted(self) -> bool:
        """Whether the job may be at fault, and not a text: nothing passes, as far as is known."""
        return self.begins or self.refusals >= REFUSED_IN_ROW


@dataclass(frozen=True, slots=True)
class Vouched:
    """What an answer proved: `keys` (n, 16), `vectors` (n, d), `rows` (n,) or None.

    `section_of` says which text it is a section of, `extent` what it is of its own.
    """

    keys: Keys
    vectors: Vectors
    tokens: int
    model_version: str
    outputs: tuple[str, ...] = ()
    rows: RowNumbers | None = None
    section_of: Piece | None = None
    extent: Extent | None = None

    def told(self) -> dict[str, Any]:
        """Return all of it by name, as a ledger takes it."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do. `again` is asked from its end. `joined` is a mean, made of what was kept.

    `cap` is a limit of texts a request, as told, and `most_bytes` one of its size.
    `try_harmless`: nothing else is answered, so find out first whether anything would be.
    `folds`: a text alone has the vector that it shared before, or has another. `mended`: so many
    of the vectors to keep came with another length than 1, and were made so.
    """

    keep: Vouched | None = None
    joined: Vouched | None = None
    rejects: tuple[Reject, ...] = ()
    again: tuple[Part, ...] = ()
    cap: int | None = None
    most_bytes: int | None = None
    end: BatchembedError | None = None
    failure: tuple[str, str] | None = None
    try_harmless: bool = False
    folds: bool | None = None
    mended: int = 0


def pieces(request: Request, step: int, by: Blamed | None) -> tuple[Part, ...]:
    """Return pieces of `step` texts; `by`: what halves would teach, None: nothing."""
    every = [request.part(at, at + step) for at in range(0, len(request), step)]
    cut = None if by is None else Cut(by, step, max(map(size_of, every)))
    return tuple(Part(piece, cut=cut) for piece in reversed(every))


def size_of(request: Request) -> int:
    """Return the bytes of a request's texts and images."""
    images = sum(map(image_bytes, request.prompts or ()))
    return images + sum(len(text.encode()) for text in request.texts)
