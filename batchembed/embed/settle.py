"""What follows from an outcome: the rules of trying again, as one pure function.

Theory of operation. A *part* is a request, or what is left of one. Its outcome gives a verdict:
vectors to keep, rejects, and parts to ask (again). Environment failures (throttled, unavailable)
cost no text anything. A refusal is halved down to the text at fault, so that one bad text of n
costs about 2 log2(n) calls and its neighbours are paid once. Where nothing but refusals comes, a
harmless text tells a wrong job from bad texts. An answer that cannot prove itself is asked again
text by text, and what fails alone is rejected: never guessed. Different texts with
one vector are such an answer; but once texts that differ in case or whitespace alone have proved
that this server folds such texts, theirs are believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from batchembed.embed.answers import alike, checked, same, sound, twins
from batchembed.embed.long import shortened
from batchembed.embed.verdicts import Facts, Part, Verdict, Vouched, pieces, size_of
from batchembed.errors import ActionNeededError
from batchembed.exchange import (
    Fatal,
    Malformed,
    Outcome,
    Refused,
    Reject,
    Request,
    Response,
    Role,
    Throttled,
    TooLarge,
    Unavailable,
    Vectors,
)

BLAMELESS_TRIES = 3
BLAMELESS_TRIES_ALONE = 15
SILENT_TRIES = 3
HEARD_TRIES = 3  # so long does a request rest, at most, while others are answered
LESS = 0.95  # of a size that is known by tokens: texts of the same bytes differ in theirs
TEARS = 1
TOO_LONG = "too_long"


def unasked(part: Part, facts: Facts) -> Verdict | None:
    """Return what follows for `part` without asking: what was held is believed if it `folds`."""
    return Verdict(keep=part.held) if part.held is not None and facts.folds else None


def harmless(role: Role) -> Request:
    """Return a request that any provider answers: a text of ours, under no key of the corpus."""
    text = "The quick brown fox jumps over the lazy dog."
    return Request(np.zeros((1, 16), np.uint8), (text,), role, tokens=10)


def judge(part: Part, outcome: Outcome, facts: Facts) -> Verdict:  # noqa: PLR0911 - one each
    """Return what follows from `outcome` for `part`."""
    match outcome:
        case Response():
            return _answered(part, outcome, facts)
        case Throttled():
            return Verdict(again=(part,), failure=("throttled", outcome.reason))
        case Unavailable():
            return _unavailable(part, outcome, facts)
        case TooLarge():
            return _too_large(part, outcome, facts)
        case Refused():
            return _refused(part, outcome, facts)
        case Malformed():
            return _malformed(part, outcome, facts)
        case Fatal():
            return Verdict(
                end=ActionNeededError(outcome.reason, hint=outcome.hint),
                failure=("fatal", outcome.reason),
            )


def _answered(part: Part, response: Response, facts: Facts) -> Verdict:
    request, vectors = part.request, response.vectors
    if vectors.ndim != 2 or len(vectors) != len(request) or not vectors.size:  # noqa: PLR2004 - (n, d)
        reason = f"asked for {len(request)} vectors, got an array of shape {vectors.shape}"
        return _malformed(part, Malformed(reason, response.request_id), facts)
    if facts.dimensions not in {None, vectors.shape[1]}:
        return Verdict(end=_other_dimensions(vectors.shape[1], facts.dimensions))
    if facts.outputs and facts.outputs != response.outputs:
        return Verdict(end=_other_outputs(response.outputs, facts.outputs))
    distinct = not response.proven and not part.alone
    if not response.unusable and facts.joined == 1 and sound(vectors, distinct=distinct):
        return Verdict(keep=_vouched(request, response, vectors), folds=_folds(part, vectors))
    came = vectors
    vectors, good = checked(vectors, normalize=facts.normalize, joined=facts.joined)
    lost = np.zeros(len(request), np.bool_)
    lost[list(response.unusable)] = True
    good &= ~lost
    held = np.zeros(len(request), np.bool_)
    if distinct and len(request) > 1:
        good, held = _without_twins(request, vectors, good)
        if facts.folds:
            good, held = good | held, np.zeros_like(held)
    doubtful = np.flatnonzero(~good & ~lost).tolist()
    long = () if facts.on_long_text == "reject" or part.alone else tuple(_long(response))
    rejects = [
        Reject(request.keys[at].tobytes(), why, request_id=response.request_id)
        for at, why in response.unusable.items()
        if at not in long
    ]
    doubtful += long
    if part.alone and doubtful:
        message = "the vector has NaN, infinity or nothing but zeros"
        rejects += _rejects(request, "bad_vector", message, request_id=response.request_id)
        doubtful = []
    return Verdict(
        keep=_vouched(request, response, vectors, good) if good.any() else None,
        rejects=tuple(rejects),
        again=_alone(request, doubtful, _vouched(request, response, vectors), held),
        failure=_failure(doubtful, long),
        folds=_folds(part, vectors) if good.any() else None,
        mended=0 if vectors is came or part.section else _mended(came[good], vectors[good]),
    )


def _mended(came: Vectors, kept: Vectors) -> int:
    """Return how many of the vectors (n, d) are not what came."""
    return int(np.any(came != kept, axis=1).sum())


def _failure(doubtful: list[int], long: tuple[int, ...]) -> tuple[str, str] | None:
    """Return what did not go well, if anything: what is too long is expected where it is cut."""
    if len(doubtful) > len(long):
        return ("doubtful", "an answer did not prove itself")
    return ("too_large", f"{len(long)} texts are too long for the model") if long else None


def _long(response: Response) -> Iterator[int]:
    """Yield the positions of texts that were left out because they are too long."""
    return (at for at, why in response.unusable.items() if why == TOO_LONG)


def _without_twins(
    request: Request, vectors: Vectors, good: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which are good and no twins, and which are good twins that the server may fold."""
    double = twins(vectors)
    told_apart = request.controls or request.prompts  # by more than their texts: nothing folds
    if not double.any() or told_apart:
        return good & ~double, np.zeros_like(good)
    return good & ~double, good & alike(vectors, request.texts, double)


def _alone(
    request: Request, doubtful: list[int], answer: Vouched, held: NDArray[np.bool_]
) -> tuple[Part, ...]:
    """Return a part for each of the `doubtful`, twins next to each other.

    Only all twins together prove that a server folds: where it mixed up two texts, one of them
    has its own vector.
    """
    parts = []
    for at in sorted(doubtful, key=lambda at: answer.vectors[at].tobytes() if held[at] else b""):
        keys, vectors = answer.keys[at : at + 1], answer.vectors[at : at + 1]
        own = request.part(at, at + 1)
        before = None
        if held[at]:
            before = replace(answer, keys=keys, vectors=vectors, tokens=0, rows=own.rows)
        parts.append(Part(own, alone=True, held=before))
    return tuple(reversed(parts))


def _folds(part: Part, vectors: Vectors) -> bool | None:
    """Return whether a text that shared a vector has the same alone; None: it shared none."""
    return None if part.held is None else same(vectors, part.held.vectors)


def _vouched(
    request: Request, response: Response, vectors: Vectors, good: NDArray[np.bool_] | None = None
) -> Vouched:
    """Return what is kept: all, or the `good` ones."""
    chosen = slice(None) if good is None or good.all() else good
    return Vouched(
        keys=request.keys[chosen],
        vectors=vectors[chosen],
        tokens=request.tokens if response.tokens is None else response.tokens,
        model_version=response.model_version,
        outputs=response.outputs,
        rows=None if request.rows is None else request.rows[chosen],
    )


def _unavailable(part: Part, outcome: Unavailable, facts: Facts) -> Verdict:
    """Ask again; but when only this request fails while others pass, a text is at fault.

    Halves cost nothing but calls, a reject costs a row: where a server fails every second
    request by chance, one text in 65,536 fails sixteen times in a row. When nothing else is asked,
    a harmless text tells an outage from a text at fault, as often as that is in doubt. While
    anything is answered the rests do not grow, so that it is known after half a minute or so.
    Halves of what was late teach the size that comes in time, where both of them do.
    """
    passed = facts.answers - part.answers
    failures = part.failures + (passed > 0)
    if failures > (BLAMELESS_TRIES if len(part.request) > 1 else BLAMELESS_TRIES_ALONE):
        if outcome.late and len(part.request) > 1:
            halves = pieces(part.request, -(-len(part.request) // 2), "time")
            return Verdict(again=halves, failure=("unavailable", outcome.reason))
        return _refused(part, Refused(outcome.reason), facts)
    tries = part.tries + 1 if not passed else min(part.tries + 1, HEARD_TRIES)
    again = replace(part, failures=failures, answers=facts.answers, tries=tries)
    # One answer was perhaps that to the harmless text.
    silent = passed <= 1 and tries >= SILENT_TRIES
    return Verdict(again=(again,), failure=("unavailable", outcome.reason), try_harmless=silent)


def _too_large(part: Part, outcome: TooLarge, facts: Facts) -> Verdict:
    """Cut to the cap that the server named, else halve; a text too large alone is another matter.

    It is rejected, or what the job wants of it is asked instead.

    A cap that was not named is learnt when both halves pass: where one of them is too large as
    well, it may be down to one long text, and says nothing of others.
    """
    size = len(part.request)
    failure = ("too_large", outcome.reason)
    if size == 1:
        if facts.begins:  # as a proxy's 413 for whatever comes
            return Verdict(again=(part,), failure=failure, try_harmless=True)
        if again := shortened(part, facts, outcome.share):
            return Verdict(again=again, failure=failure)
        rejects = _rejects(part.request, TOO_LONG, outcome.reason)
        return Verdict(rejects=tuple(rejects), failure=failure)
    named = outcome.texts_per_request
    cap = named if named and named < size else None
    by = None if cap or outcome.share else outcome.by
    again = pieces(part.request, cap or -(-size // 2), by)
    most_bytes = int(size_of(part.request) * outcome.share * LESS) if outcome.share else None
    return Verdict(again=again, cap=cap, most_bytes=most_bytes, failure=failure)


def _refused(part: Part, outcome: Refused, facts: Facts) -> Verdict:
    failure = ("refused", outcome.reason)
    request, size = part.request, len(part.request)
    if size > 1:
        middle = size // 2
        halves = (Part(request.part(middle, size)), Part(request.part(0, middle)))
        return Verdict(again=halves, failure=failure, try_harmless=facts.doubted)
    if facts.doubted:
        return Verdict(again=(part,), failure=failure, try_harmless=True)
    rejects = _rejects(
        request, "refused", outcome.reason, status=outcome.status, request_id=outcome.request_id
    )
    return Verdict(rejects=tuple(rejects), failure=failure)


def _malformed(part: Part, outcome: Malformed, facts: Facts) -> Verdict:
    failure = ("malformed", outcome.reason)
    request = part.request
    if outcome.torn and part.tears < TEARS:
        return Verdict(again=(replace(part, tears=part.tears + 1),), failure=failure)
    if not part.alone:
        each = (Part(request.part(at, at + 1), alone=True) for at in reversed(range(len(request))))
        return Verdict(again=tuple(each), failure=failure, try_harmless=facts.doubted)
    if facts.doubted:
        return Verdict(again=(part,), failure=failure, try_harmless=True)
    rejects = _rejects(request, "malformed_answer", outcome.reason, request_id=outcome.request_id)
    return Verdict(rejects=tuple(rejects), failure=failure)


def _rejects(
    request: Request, reason: str, message: str, *, status: int = 0, request_id: str = ""
) -> list[Reject]:
    return [Reject(key.tobytes(), reason, message, status, request_id) for key in request.keys]


def _other_dimensions(got: int, wanted: int | None) -> ActionNeededError:
    return ActionNeededError(
        f"the server answers with vectors of `{got}` dimensions, not `{wanted}`",
        hint="check `model.name` and `model.dimensions`; vectors of two sizes never mix",
    )


def _other_outputs(got: tuple[str, ...], wanted: tuple[str, ...]) -> ActionNeededError:
    return ActionNeededError(
        f"the server answers with `{', '.join(got)}`, and before it was `{', '.join(wanted)}`",
        hint="the model has other layers now: embed into a new directory with --out",
    )
