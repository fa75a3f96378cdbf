"""The provider's side of the batch lane over HTTP: each call is one attempt, and never raises."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from batchembed.exchange import Call, Outcome, Request, Unavailable
from batchembed.handed import Handed
from batchembed.providers import status
from batchembed.providers.batches import ANSWER_BYTES, Batches
from batchembed.providers.http import HttpProvider
from batchembed.providers.sayings import said

ROOM = 4 << 20
PAGES = 50


@dataclass(frozen=True, slots=True)
class HttpCounter:
    """Where files of requests are handed in, looked after, and fetched."""

    provider: HttpProvider
    batches: Batches

    async def hand_in(self, file: bytes, identity: str, shared: str) -> Handed | Outcome:
        """Store a file and submit it, with what its lines share."""
        stored = await self._json(self.batches.upload(file, f"{identity}.jsonl"))
        if not isinstance(stored, dict):
            return stored
        return await self._told(self.batches.jobs.create(str(stored.get("id")), identity, shared))

    async def find(self, identity: str) -> Handed | Outcome | None:
        """Return the batch with an identity that did not fail, None where there is none."""
        after: str | None = None
        for number in range(PAGES):
            page = await self._json(self.batches.jobs.recent(number, after))
            if not isinstance(page, dict):
                return page
            listed = [self.batches.jobs.told(one) for one in page.get("data") or []]
            for told in listed:
                if told.identity == identity and told.state != "failed":
                    return told
            if not listed or not self.batches.jobs.more(number, page):
                return None
            after = listed[-1].id
        return None

    async def look(self, batch: str) -> Handed | Outcome:
        """Return how far a batch is."""
        return await self._told(self.batches.jobs.look(batch))

    async def answers(self, file: str) -> bytes | Outcome:
        """Return a file of answers."""
        return await self._asked(self.batches.download(file), 2 * ANSWER_BYTES)

    def split(self, file: bytes) -> list[tuple[str, int, bytes]]:
        """Return (name, status, body) of the answers in a file."""
        return list(self.batches.answers(file))

    def request(self, line: bytes, keys: NDArray[np.uint8]) -> Request:
        """Return the request that a line asked for."""
        return self.batches.request(line, keys)

    def outcome(self, request: Request, code: int, body: bytes) -> Outcome:
        """Return what one answer means."""
        if not code:
            return Unavailable(said(body).message or "no answer in the batch")
        return self.batches.dialect.parse(request, status=code, headers={}, body=body)

    async def _told(self, call: Call) -> Handed | Outcome:
        found = await self._json(call)
        if not isinstance(found, dict):
            return found
        try:
            return self.batches.jobs.told(found)
        except (KeyError, TypeError, AttributeError) as error:
            return Unavailable(f"200, but what came is no batch: {error}", billed=True)

    async def _asked(self, call: Call, most: int) -> bytes | Outcome:
        """Return the body of a 200, else what the answer means."""
        answer = await self.provider.ask(call, most)
        if not isinstance(answer, tuple):
            return answer
        code, headers, body = answer
        if code == HTTPStatus.OK:
            return body
        nothing = Request(np.zeros((0, 16), np.uint8), ())
        return status.sort(nothing, status=code, headers=headers, body=body)

    async def _json(self, call: Call) -> dict[str, Any] | Outcome:
        body = await self._asked(call, ROOM)
        if not isinstance(body, bytes):
            return body
        try:
            found = orjson.loads(body)
        except ValueError:
            return Unavailable("200, but no JSON came", billed=True)
        return found if isinstance(found, dict) else Unavailable("200, but no object came")
