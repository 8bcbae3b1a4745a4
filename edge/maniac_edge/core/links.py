"""CoreLinks: a relay link to every core, so that requests are spread over those that live.

A core that dies leaves the choice at once, and one that is about to stop as soon as it says so. One that is away is
tried again every second, and also when a request finds no link at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time

import grpc
from maniac_common.supervised import supervised

from maniac_edge.core.channel import CoreChannels
from maniac_edge.core.link import Link, OtherVersionError
from maniac_edge.core.streams import StreamError

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
# A request that finds no link waits this long for one, and shorter if every core is known to be away.
_FIND_S = 2.0
# How soon a name is looked up again: cores come and go behind it.
_LOOK_UP_S = 5.0
_LOOK_UP_AGAIN_S = 1.0
# Answers of a core that will not have a relay however often it is asked; completions then go by plain RPCs.
_NO_RELAY = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED)


class CoreLinks:
    """The links of an edge worker."""

    def __init__(self, channels: CoreChannels) -> None:
        self.channels = channels
        self._live: list[Link] = []
        self._turn = 0
        self._keepers: dict[str, _Keeper] = {}
        self._is_looking_up = False
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Begin to connect, and stay connected; does not wait for any core."""
        self._is_looking_up = True
        self._task = asyncio.create_task(self._keep_connected())

    async def close(self) -> None:
        """Disconnect; calls that still run fail."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def connected(self) -> int:
        """How many cores take calls."""
        return len(self._live)

    @property
    def running(self) -> int:
        """How many calls run."""
        return sum(keeper.running for keeper in list(self._keepers.values()))

    @property
    def are_of_other_versions(self) -> bool:
        """Whether a core does not speak this edge's version of the relay."""
        return any(keeper.is_of_other_version for keeper in self._keepers.values())

    def next(self) -> Link | None:
        """Return the link whose turn it is, or None when there is none."""
        live = self._live
        if not live:
            return None
        self._turn = (self._turn + 1) % len(live)
        return live[self._turn]

    async def find(self) -> Link | None:
        """Return a link as `next`; if there is none, try every core now. None: none can be reached."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIND_S):
                for keeper in self._keepers.values():
                    keeper.hurry()
                while not self._live and self._is_trying():
                    await self._changed.wait()
        return self.next()

    def came(self, link: Link) -> None:
        """A link takes calls."""
        if not link.is_draining:
            self._live.append(link)
        self.tell()

    def went(self, link: Link) -> None:
        """A link takes no calls any more."""
        if link in self._live:
            self._live.remove(link)

    def tell(self) -> None:
        """Let those who wait for a link look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _is_trying(self) -> bool:
        return self._is_looking_up or any(keeper.is_trying for keeper in self._keepers.values())

    async def _keep_connected(self) -> None:
        async with asyncio.TaskGroup() as group:
            await supervised("looking up the cores", functools.partial(self._look_up, group))

    async def _look_up(self, group: asyncio.TaskGroup) -> None:
        said = ""
        while True:
            try:
                addresses = await self.channels.target.addresses()
            except OSError as err:
                # Those that are known are kept: they are more likely to be right than nothing.
                if str(err) != said:
                    said = str(err)
                    _log.warning("the cores' name cannot be looked up: %s", err)
            else:
                said = ""
                self._use(addresses, group)
            self._is_looking_up = False
            self.tell()
            if self.channels.target.name is None:
                return
            await asyncio.sleep(_LOOK_UP_S if self._live else _LOOK_UP_AGAIN_S)

    def _use(self, addresses: tuple[str, ...], group: asyncio.TaskGroup) -> None:
        for gone in self._keepers.keys() - addresses:
            self._keepers.pop(gone).retire()
        for address in addresses:
            if address not in self._keepers:
                keeper = self._keepers[address] = _Keeper(address, self)
                group.create_task(supervised(f"the relay to the core {address}", keeper.run))


class _Keeper:
    """Keeps one core connected."""

    def __init__(self, address: str, links: CoreLinks) -> None:
        self.is_trying = True
        """Whether it is not known yet if the core can be reached."""
        self.is_of_other_version = False
        """Whether the core does not speak this edge's version of the relay."""
        self._address = address
        self._links = links
        self._link: Link | None = None
        self._tried = 0.0
        self._offers_relay = True
        self._is_retired = False
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Connect, again and again, until retired."""
        pause_s = _FIRST_PAUSE_S
        reported: object = None
        while not self._is_retired:
            link = self._link = Link(self._address, self._links.channels, self._links.went)
            self.is_trying = True
            try:
                await link.connect()
                self.is_trying = False
                self._offers_relay = True
                self.is_of_other_version = False
                pause_s = _FIRST_PAUSE_S
                reported = None
                self._links.came(link)
                await link.run()
            except (StreamError, TimeoutError) as err:
                cause = err.code if isinstance(err, StreamError) else "no answer"
                self._offers_relay = cause not in _NO_RELAY
                # Once per cause: a core that is down is tried every second.
                if cause is not reported:
                    reported = cause
                    self._tell(err)
            except OtherVersionError:
                self._offers_relay = False
                if not self.is_of_other_version:
                    self.is_of_other_version = True
                    _log.warning(
                        "the core %s is older than this edge: upgrade the cores, then the edges",
                        self._address,
                    )
            finally:
                self._link = None
                self._links.went(link)
                self._tried = time.monotonic()
                self.is_trying = False
                self._links.tell()
                await link.close()
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _tell(self, error: StreamError | TimeoutError) -> None:
        if isinstance(error, TimeoutError):
            _log.info("no relay to the core %s: no answer", self._address)
        elif error.code is grpc.StatusCode.PERMISSION_DENIED:
            _log.warning("the core %s refuses the relay: %s", self._address, error.details)
        else:
            _log.info("no relay to the core %s: %s", self._address, error.code)

    @property
    def running(self) -> int:
        """How many calls run there."""
        link = self._link
        return link.running if link is not None else 0

    def hurry(self) -> None:
        """End the pause, unless it has just begun or another try is useless."""
        if self._link is None and self._offers_relay and not self.is_trying:
            if time.monotonic() - self._tried < _FIRST_PAUSE_S:
                return
            self.is_trying = True
            self._wake.set()

    def retire(self) -> None:
        """Take no new calls to this core; end when those that run have."""
        self._is_retired = True
        self._wake.set()
        if self._link is not None:
            self._link.drain()

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
