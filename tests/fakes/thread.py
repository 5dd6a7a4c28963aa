"""Run a fake in a background thread with its own event loop, for tests whose own code blocks."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload


class Fake(Protocol):
    """What can be run so: FakeBroker, TcpProxy, MySqlProxy."""

    port: int

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


F = TypeVar("F", bound=Fake)
T = TypeVar("T")


class InThread(Generic[F]):
    """`with InThread(FakeBroker()) as broker: broker.do(lambda b: b.publish("a/b", b"x"))`.

    Everything that touches the fake goes through `do`, which runs it on the fake's loop and returns what it returns.
    """

    def __init__(self, fake: F) -> None:
        self._fake = fake
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(fake).__name__, daemon=True)

    @property
    def port(self) -> int:
        """Where the fake listens, on 127.0.0.1."""
        return self._fake.port

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.do(lambda fake: fake.start())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.do(lambda fake: fake.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    @overload
    def do(self, action: Callable[[F], Coroutine[Any, Any, T]], timeout: float = ...) -> T: ...
    @overload
    def do(self, action: Callable[[F], T], timeout: float = ...) -> T: ...
    def do(self, action: Callable[[F], Any], timeout: float = 60.0) -> Any:
        """Run `action` on the fake's loop, await its result when it has to be, and return it."""

        async def run() -> Any:
            outcome = action(self._fake)
            return await outcome if inspect.isawaitable(outcome) else outcome

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout)

    def set(self, **knobs: object) -> None:
        """Turn knobs: `broker.set(window=4, receive_max=10)`."""

        async def turn() -> None:
            for name, value in knobs.items():
                getattr(self._fake, name)  # a misspelt knob is an AttributeError
                setattr(self._fake, name, value)

        self.do(lambda _: turn())
