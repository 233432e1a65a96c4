"""The tries of one call: when the next one is, without which fields, and when to give up."""

from __future__ import annotations

import asyncio

from carrel.errors import GenerationError
from carrel.generation.remote.failures import Backoff, FailedReplyError
from carrel.generation.remote.replies import refused_fields
from carrel.generation.remote.server import Deadline


class Tries:
    """Counts the tries of a call against one deadline.

    Parameters
    ----------
    seconds : for all tries and waits together.
    retries : further tries after failures that may pass.
    refused : fields of a request that the server has refused. All calls to a server share them, and add to them; a
        request is sent without them (carrel.generation.remote.replies.adapted).
    """

    def __init__(self, seconds: float, retries: int, refused: set[str]) -> None:
        self.deadline = Deadline(seconds)
        self._backoff = Backoff(retries)
        self._refused = refused
        self._left_out = set(refused)  # by this call: another may learn of a field while this one's request has it

    async def wait(self, failed: FailedReplyError) -> None:
        """Wait for the next try after a failure.

        Raises
        ------
        GenerationError : the failure's own, where there is no next try.
        """
        wait_s = self._wait_s(failed)
        if wait_s is None:
            raise failed.error from failed
        await asyncio.sleep(wait_s)

    def _wait_s(self, failed: FailedReplyError) -> float | None:
        """Seconds to the next try, none where the request can be mended; None to give up."""
        if failed.again or type(failed.error) is not GenerationError:
            return self._backoff.wait_s(failed, self.deadline.left_s)
        named = refused_fields(str(failed.error)) - self._left_out
        self._left_out |= named
        self._refused |= named
        return 0.0 if named else None
