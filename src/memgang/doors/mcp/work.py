"""Tools of work: claim it, see who is at it, wait for it, say what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from memgang.claims import TEXT_MAX, Claim, Claims, Ending, State
from memgang.doors.mcp.door import Door
from memgang.doors.mcp.memory import Limit
from memgang.doors.mcp.results import Marked, moment

WAIT_MAX_S = 300
WAIT_S = 25  # clients give up on a tool after a minute or so, unless they are told otherwise

Work = Annotated[str, Field(
    min_length=1, max_length=500, description="The name of the piece of work, as in port/login-page: what all would call it.")]
Token = Annotated[str, Field(max_length=200, description="The token you were given with the claim.")]


class Standing(BaseModel):
    """A piece of work as it stands."""

    work: str
    state: State = Field(description="free, running, done, failed, given_up, or expired: whoever claimed it was not heard of again.")
    who: str = Field(description="Who has it, or had it.")
    note: str = Field(description="What they said when they claimed it.")
    since: str = Field(description="When they claimed it (ISO 8601).")
    until: str = Field(description="When the claim ends by itself, or what came of it is forgotten.")
    outcome: str = Field(description="What came of it, in words.")
    result: str = Field(description="The reference of what came of it, if there is one.")


class Status(Standing, Marked):
    """A piece of work as it stands, and whether it is yours."""

    yours: bool = Field(default=False, description="Whether the claim was just given to you.")
    token: str = Field(default="", description="Yours alone: hand it in to keep the claim and to end it.")
    advice: str = Field(description="What to do next.")


class Board(Marked):
    """Work that is claimed, was claimed or has ended, in alphabetical order."""

    work: list[Standing]


class WorkTools:
    """The tools of one door."""

    def __init__(self, door: Door) -> None:
        self._claims, self._space = Claims(door.space), door.space
        door.offer(self.claim, "work_claim", "Claim a piece of work")
        door.offer(self.status, "work_status", "See who is at what", reads=True, repeats=True)
        door.offer(self.wait, "work_wait", "Wait for a piece of work", reads=True, repeats=True)
        door.offer(self.done, "work_done", "Say what came of a piece of work")

    async def claim(
        self, work: Work,
        note: Annotated[str, Field(max_length=TEXT_MAX, description="What you are about to do; others see it.")] = "",
        ttl: Annotated[str, Field(description="After how long it is free again unless you renew it, such as 10m.")] = "10m",
        token: Token = "",
        again: Annotated[bool, Field(description="Claim it although it is done already.")] = False,
    ) -> Status:
        """Claim a piece of work before you begin it, or see who has it, since when, and what came of it.

        If it is yours you are given a token: claim again with it to keep the claim, hand it to work_done at the end. A claim is
        advice to the others and ends by itself.
        """
        return _told(await self._claims.claim(work, ttl, note, token=token, again=again))

    async def status(
        self, work: Annotated[str, Field(max_length=500, description="One piece of work; empty: all of them.")] = "",
        prefix: Annotated[str, Field(max_length=500, description="All whose names begin so.")] = "", limit: Limit = 50,
    ) -> Board:
        """See who is at what, since when, and what came of it."""
        found = [await self._claims.status(work)] if work else await self._claims.all(prefix, limit)
        return Board(work=[Standing(**_standing(claim)) for claim in found])

    async def wait(
        self, work: Work,
        timeout_s: Annotated[float, Field(gt=0, le=WAIT_MAX_S, description="How long at most, in seconds.")] = WAIT_S,
    ) -> Status:
        """Wait until nobody is at a piece of work any more, and see what came of it; or as it stands when the time is over."""
        return _told(await self._claims.wait(work, timeout_s))

    async def done(
        self, work: Work, token: Token,
        outcome: Annotated[str, Field(max_length=TEXT_MAX, description="What came of it, in a sentence or two.")] = "",
        result: Annotated[str, Field(max_length=600, description="The reference (or name) of what came of it, if you have put it.")] = "",
        state: Annotated[Ending, Field(description="done; failed: it cannot be done so; given_up: somebody else may.")] = "done",
        keep: Annotated[str, Field(description="How long others are told of it, such as 1d.")] = "1d",
    ) -> Status:
        """Say what came of your piece of work, so that others use it instead of doing it again. It ends your claim."""
        ref = await self._space.resolve(result) if result else None
        return _told(await self._claims.finish(work, token, outcome, ref, state=state, keep=keep))


_ADVICE: dict[State | Literal["yours"], str] = {
    "yours": "It is yours: do it, claim again with the token before it ends, and say what came of it with work_done.",
    "free": "Nobody has it: claim it before you begin.",
    "running": "Somebody is at it: do something else, or wait with work_wait.",
    "done": "It is done: use what came of it.",
    "failed": "It has failed: read why before you claim it.",
    "given_up": "It was given up: claim it if you want to do it.",
    "expired": "Whoever had it was not heard of again: claim it if you want to do it.",
}


def _standing(claim: Claim) -> dict[str, Any]:
    return {"work": claim.work, "state": claim.state, "who": claim.who, "note": claim.note, "since": moment(claim.since),
            "until": moment(claim.until), "outcome": claim.outcome, "result": claim.result or ""}


def _told(claim: Claim) -> Status:
    yours = bool(claim.token)
    return Status(**_standing(claim), yours=yours, token=claim.token, advice=_ADVICE["yours" if yours else claim.state])
