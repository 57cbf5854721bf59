"""serving.auth.LoginQueue: which password is checked next."""

from __future__ import annotations

import asyncio
import threading

import pytest

from brolga.registry.serving import auth
from brolga.registry.serving.auth import ClientGone, LoginQueue, TooManyLogins

HERE, THERE = "127.0.0.1", "192.0.2.1"


class Checks:
    """Checks that wait until the test lets them end; `names` are those that began, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def __call__(self, name: str, password: str) -> bool:
        self.names.append(name)
        self.begun.release()
        assert self.may_end.acquire(timeout=30)
        return password == "right"  # noqa: S105 - the test's own


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_check_serves_the_newest_of_each_address_in_turn() -> None:
    """A flood from one address blocks neither another address nor the requests after it."""

    async def main() -> None:
        checks = Checks()
        queue = LoginQueue(checks)
        tasks = []
        for address, name in ((HERE, "a"), (HERE, "b"), (HERE, "c"), (THERE, "d"), (HERE, "e")):
            tasks.append(asyncio.create_task(queue.check(address, name, "right", asyncio.Event())))
            await settle()
        for _ in tasks:
            checks.may_end.release()
        assert await asyncio.gather(*tasks) == [True] * 5
        assert checks.names == ["a", "e", "d", "c", "b"]
        checks.may_end.release()
        assert not await queue.check(HERE, "f", "wrong", asyncio.Event())

    asyncio.run(main())


def test_check_forgets_a_client_that_left() -> None:
    """Its password is never checked."""

    async def main() -> None:
        checks = Checks()
        queue = LoginQueue(checks)
        gone = asyncio.Event()
        first = asyncio.create_task(queue.check(HERE, "a", "right", asyncio.Event()))
        await settle()
        left = asyncio.create_task(queue.check(HERE, "b", "right", gone))
        await settle()
        gone.set()
        with pytest.raises(ClientGone):
            await left
        cancelled = asyncio.create_task(queue.check(HERE, "c", "right", asyncio.Event()))
        await settle()
        cancelled.cancel()
        await asyncio.wait({cancelled})
        checks.may_end.release()
        assert await first
        assert checks.names == ["a"]
        assert (queue._pending, queue._is_busy) == ({}, False)

    asyncio.run(main())


def test_check_refuses_the_oldest_if_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one of the address that has the most places."""
    monkeypatch.setattr(auth, "MAX_PENDING_LOGINS", 3)

    async def main() -> None:
        checks = Checks()
        queue = LoginQueue(checks)
        tasks = []
        for address, name in ((HERE, "a"), (THERE, "b"), (HERE, "c"), (HERE, "d"), (HERE, "e")):
            tasks.append(asyncio.create_task(queue.check(address, name, "right", asyncio.Event())))
            await settle()
        with pytest.raises(TooManyLogins):
            await tasks[2]
        for _ in tasks:
            checks.may_end.release()
        assert await asyncio.gather(*tasks[:2], *tasks[3:]) == [True] * 4

    asyncio.run(main())
