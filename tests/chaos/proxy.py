"""A TCP proxy between every client and every server of the chaos stack; a process of its own.

It knows a client by the supervised part whose process holds the other end of the connection, so
that a rule can hit one pair alone. It is told what to do in JSON lines on its standard input and
answers each with one line; it ends when that is closed. `tests.chaos.proxy_control` talks to it.

Rules, by pair (client, server):
- `latency`: every chunk arrives `value` seconds later, in both directions;
- `blackhole`: nothing arrives, and nobody is told; what is under way waits, as in TCP;
- `reset`: of every `value` replies one is thrown away, and both ends get a reset: the request has
  been carried out, and the client does not know.
"""

import asyncio
import json
import os
import socket
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import psutil

from tests.chaos.ports import HOST, ROUTES

_CHUNK = 64 * 1024
_WAITING_CHUNKS = 256
_LINGER_NONE = struct.pack("ii", 1, 0)
#: A client that is no part of the stack: the tests themselves.
OUTSIDE = "outside"


@dataclass(slots=True)
class Rule:
    """What happens to one pair; `lifted` ends a blackhole."""

    kind: str
    value: float
    lifted: asyncio.Event = field(default_factory=asyncio.Event)


Ends: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, with a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    writer.transport.abort()


class Link:
    """One connection of a client, and the one made for it to the server."""

    def __init__(self, proxy: "Proxy", client: str, server: str) -> None:
        self.pair = (client, server)
        self._proxy = proxy
        self._writers: list[asyncio.StreamWriter] = []

    async def run(self, near: Ends, far: Ends) -> None:
        """Carry bytes both ways until both sides have ended or one has been cut off."""
        self._writers = [near[1], far[1]]
        ways = (self._carry(near[0], far[1], False), self._carry(far[0], near[1], True))
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            for ended in asyncio.as_completed(tasks):
                if not await ended:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.cut()

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            reset(writer)

    def _is_cut_off(self, rule: Rule) -> bool:
        """Whether this is the reply that is thrown away."""
        if self._proxy.count(self.pair, "replies") % max(1, int(rule.value)):
            return False
        self._proxy.count(self.pair, "resets")
        return True

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bool
    ) -> bool:
        """Carry one way; whether it was closed in good order, and only this way."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_CHUNKS)
        writing = asyncio.create_task(self._write(waiting, writer))
        clock = asyncio.get_running_loop().time
        try:
            while data := await reader.read(_CHUNK):
                rule = self._proxy.rules.get(self.pair)
                late = 0.0
                if rule is not None and rule.kind == "latency":
                    late = rule.value
                    self._proxy.count(self.pair, "delayed")
                elif rule is not None and rule.kind == "reset" and reply and self._is_cut_off(rule):
                    return False
                await waiting.put((clock() + late, data))
            await waiting.put((0.0, b""))
            return await writing
        except OSError:
            return False
        finally:
            writing.cancel()

    async def _write(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> bool:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                due, data = await waiting.get()
                if (late := due - clock()) > 0:
                    await asyncio.sleep(late)
                while (rule := self._proxy.rules.get(self.pair)) and rule.kind == "blackhole":
                    self._proxy.count(self.pair, "held")
                    await rule.lifted.wait()
                if not data:
                    writer.write_eof()
                    return True
                writer.write(data)
                await writer.drain()
        except OSError:
            return False


class Proxy:
    """All listeners, rules and counters."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str], Rule] = {}
        self._counters: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._upstream = {server: port for server, (_, port) in ROUTES.items()}
        self._links: set[Link] = set()
        self._listeners: list[asyncio.Server] = []

    def count(self, pair: tuple[str, str], what: str) -> int:
        """One more; returns how many."""
        self._counters[pair][what] += 1
        return self._counters[pair][what]

    async def listen(self) -> dict[str, int]:
        """Take connections for every server; returns the ports."""
        ports = {}
        for server, (port, _) in ROUTES.items():

            async def accepted(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str = server
            ) -> None:
                try:
                    far = await asyncio.open_connection(HOST, self._upstream[server])
                except OSError:
                    # Nobody listens there, and the client is told so.
                    reset(writer)
                    return
                port = writer.get_extra_info("peername")[1]
                link = Link(self, await asyncio.to_thread(holder, port), server)
                self.count(link.pair, "connections")
                self._links.add(link)
                try:
                    await link.run((reader, writer), far)
                finally:
                    self._links.discard(link)

            listener = await asyncio.start_server(accepted, HOST, port)
            self._listeners.append(listener)
            ports[server] = listener.sockets[0].getsockname()[1]
        return ports

    async def close(self) -> None:
        """Listen no more, and reset every connection."""
        for listener in self._listeners:
            listener.close()
        while self._links:
            self._cut(self._links)
            await asyncio.sleep(0)

    def obey(self, order: dict[str, object]) -> object:
        """Carry one order out."""
        match order:
            case {"do": "rule", "client": str(client), "server": str(server), "kind": str(kind)}:
                self._lift((client, server))
                self.rules[client, server] = Rule(kind, float(str(order.get("value", 0))))
            case {"do": "clear"}:
                for pair in list(self.rules):
                    self._lift(pair)
            case {"do": "upstream", "server": str(server), "port": int(port)}:
                self._upstream[server] = port
            case {"do": "cut", "server": str(server)}:
                self._cut(link for link in self._links if link.pair[1] == server)
            case {"do": "counters"}:
                return {f"{c}>{s}": dict(n) for (c, s), n in self._counters.items()}
            case _:
                return {"error": f"no such order: {order}"}
        return {}

    def _cut(self, links: Iterable[Link]) -> None:
        for link in list(links):
            link.cut()

    def _lift(self, pair: tuple[str, str]) -> None:
        rule = self.rules.pop(pair, None)
        if rule is not None:
            rule.lifted.set()


#: Parts that connect to others. Looking through all processes, and the broker's thousands of files,
#: took so long that clients gave up and came again, faster than they were told apart.
_CLIENTS = frozenset(
    {"availability", "ledger", "auditor", "guardian", "reservations", "checkout", "connect"}
)


def holder(port: int) -> str:
    """The supervised part whose process holds a local TCP port."""
    for process in psutil.process_iter():
        try:
            # Asked each time: a process gets its environment a moment after it has begun.
            part = process.environ().get("SUPERVISOR_PROCESS_NAME", "")
            held = process.net_connections("tcp") if part in _CLIENTS else []
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(connection.laddr and connection.laddr.port == port for connection in held):
            return part
    return OUTSIDE


async def main() -> None:
    """Serve until standard input ends."""
    proxy = Proxy()
    await proxy.listen()
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    while line := await orders.readline():
        print(json.dumps(proxy.obey(json.loads(line))), flush=True)
    await proxy.close()


if __name__ == "__main__":
    asyncio.run(main())
