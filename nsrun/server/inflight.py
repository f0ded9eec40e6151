"""How much of something is under way, and waiting until nothing of it is."""

from __future__ import annotations

import asyncio
from types import TracebackType


class InFlight:
    """A count, used as a context manager by what is under way."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self, patience_s: float) -> bool:
        """Wait until nothing is under way; False: something still is after `patience_s` seconds.

        True holds until the caller awaits something again.
        """
        try:
            async with asyncio.timeout(patience_s):
                while self._count:
                    await self._none.wait()
        except TimeoutError:
            return False
        return True
