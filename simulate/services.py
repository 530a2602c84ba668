"""A payment and a shipping service over HTTP on loopback, that can be told to fail.

`python -m simulate.services --port 18190`, and then:

    PUT  /payments/{key}               take money, once per key
    PUT  /payments/{key}/refund        give it back; nothing is charged under the key any more
    PUT  /shipments/{key}              send a parcel, once per key
    PUT  /shipments/{key}/cancellation call it off; nothing is sent under the key any more
    GET  /ledger                       every effect that there was, in order
    POST /faults                       {"path": "refund", "fault": "fail", "times": 3}

The path of a fault is `payments`, `refund`, `shipments` or `cancellation`.
"""

import argparse
import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

LOOPBACK = "127.0.0.1"

#: Means of payment and addresses with which it always goes the same way, like a test card's number.
DECLINED_METHOD, UNANSWERED_METHOD = "card-declined", "card-unanswered"
DECLINED_ADDRESS = "nowhere"


class Fault(StrEnum):
    """What may be wrong with an answer."""

    #: 503, and nothing is done.
    FAIL = "fail"
    #: The answer is no.
    DECLINE = "decline"
    #: Nothing is done, and nothing is answered as long as the caller waits.
    HANG = "hang"
    #: It is done, and nothing is answered.
    LOSE = "lose"
    #: Nothing is answered; it is done when the caller has given up, at the next `POST /late`.
    LATE = "late"
    #: It is done, and then answered with 503.
    SPOIL = "spoil"
    #: It is delivered twice, and answered twice on the same connection.
    TWICE = "twice"
    #: The answer is of another key.
    MIX_UP = "mix_up"


_BY_METHOD = MappingProxyType({DECLINED_METHOD: Fault.DECLINE, UNANSWERED_METHOD: Fault.SPOIL})
_BY_ADDRESS = MappingProxyType({DECLINED_ADDRESS: Fault.DECLINE})


class Ordered(BaseModel):
    """A fault for the next so many requests of a kind."""

    path: str
    fault: Fault
    times: int = Field(1, ge=1)


class Entry(NamedTuple):
    """An effect: of a kind, under a key, with the money or the units that it moved."""

    kind: str
    key: str
    amount: int


@dataclass(slots=True)
class _Account:
    """What is known of a key."""

    terms: bytes | None = None
    number: str = ""
    undone: str = ""


class Book:
    """What one of the services has done, by key."""

    def __init__(self, name: str, does: str, undoes: str, ledger: list[Entry]) -> None:
        """Write effects to the ledger as `does` and `undoes`."""
        self._name, self._does, self._undoes = name, does, undoes
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)
        self._amounts: dict[str, int] = {}
        self._ledger = ledger

    def do(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """The status and the answer; the same for the same key."""
        account, terms = self._accounts[key], orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        if account.undone:
            return 410, {"key": key, "reason": "undone"}
        if account.terms is None:
            amount = body.get("amount_minor") or sum(units for _, units in body.get("lines", []))
            account.terms, account.number = terms, f"{self._name}-{len(self._amounts) + 1}"
            self._amounts[key] = amount
            self._ledger.append(Entry(self._does, key, amount))
        if account.terms != terms:
            return 409, {"key": key, "reason": "another request under the same key"}
        return 200, {"key": key, "number": account.number}

    def undo(self, key: str) -> tuple[int, dict[str, str]]:
        """Give back what there was, and have nothing done under this key any more."""
        account = self._accounts[key]
        if not account.undone:
            account.undone = f"{self._name}-undone-{key}"
            if account.number:
                self._ledger.append(Entry(self._undoes, key, -self._amounts[key]))
        return 200, {"key": key, "number": account.undone}


_Effect = Callable[[], tuple[int, dict[str, str]]]


class Services:
    """Both services; use it as an async context manager, it answers inside the block."""

    def __init__(self, port: int = 0) -> None:
        """On a port of loopback; 0 for any that is free, `url` says which."""
        self.ledger: list[Entry] = []
        self.requests: list[tuple[str, str]] = []
        self._payments = Book("payment", "charge", "refund", self.ledger)
        self._shipments = Book("shipment", "ship", "cancel", self.ledger)
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._late: list[_Effect] = []
        self._port = port
        self._closing = asyncio.Event()
        app = web.Application()
        app.add_routes(
            [
                web.put("/payments/{key}", self._pay),
                web.put("/payments/{key}/refund", self._refund),
                web.put("/shipments/{key}", self._ship),
                web.put("/shipments/{key}/cancellation", self._cancel),
                web.get("/ledger", self._show),
                web.post("/faults", self._order),
                web.post("/late", self._arrive),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)

    @property
    def url(self) -> str:
        """Where they answer."""
        return f"http://{LOOPBACK}:{self._port}"

    async def __aenter__(self) -> "Services":
        """Answer from here on."""
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer nobody any more."""
        self._closing.set()
        await self._runner.cleanup()

    def go_wrong(self, path: str, fault: Fault, times: int = 1) -> None:
        """Have the next requests of a kind go wrong, after those already told to."""
        self._faults[path].extend([fault] * times)

    def arrive_late(self) -> None:
        """Do now what callers were not answered about."""
        late, self._late = self._late, []
        for effect in late:
            effect()

    def balance(self, key: str) -> int:
        """What is charged or sent under a key, less what was given back."""
        return sum(entry.amount for entry in self.ledger if entry.key == key)

    async def _pay(self, request: web.Request) -> web.StreamResponse:
        key, body = request.match_info["key"], await request.json()
        always = _BY_METHOD.get(body.get("method"))
        return await self._answer("payments", request, lambda: self._payments.do(key, body), always)

    async def _refund(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        return await self._answer("refund", request, lambda: self._payments.undo(key))

    async def _ship(self, request: web.Request) -> web.StreamResponse:
        key, body = request.match_info["key"], await request.json()
        always = _BY_ADDRESS.get(body.get("ship_to"))
        return await self._answer(
            "shipments", request, lambda: self._shipments.do(key, body), always
        )

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        return await self._answer("cancellation", request, lambda: self._shipments.undo(key))

    async def _answer(
        self, path: str, request: web.Request, effect: _Effect, always: Fault | None = None
    ) -> web.StreamResponse:
        key = request.match_info["key"]
        self.requests.append((path, key))
        fault = self._faults[path].popleft() if self._faults[path] else always
        match fault:
            case Fault.FAIL:
                return web.json_response({"key": key, "reason": "told to fail"}, status=503)
            case Fault.SPOIL:
                effect()
                return web.json_response({"key": key, "reason": "told to fail"}, status=503)
            case Fault.DECLINE:
                return web.json_response({"key": key, "reason": "declined"}, status=402)
            case Fault.HANG:
                return await self._hang()
            case Fault.LOSE:
                effect()
                return await self._hang()
            case Fault.LATE:
                self._late.append(effect)
                return await self._hang()
            case Fault.MIX_UP:
                return web.json_response({"key": f"not-{key}", "number": "1"})
            case Fault.TWICE:
                effect()
                return await _twice(request, *effect())
        status, answer = effect()
        return web.json_response(answer, status=status)

    async def _hang(self) -> web.Response:
        """Until the caller has gone away, which cancels this, or the service ends."""
        await self._closing.wait()
        return web.Response(status=503)

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response([entry._asdict() for entry in self.ledger])

    async def _order(self, request: web.Request) -> web.Response:
        ordered = Ordered.model_validate_json(await request.read())
        self.go_wrong(ordered.path, ordered.fault, ordered.times)
        return web.Response(status=204)

    async def _arrive(self, _: web.Request) -> web.Response:
        self.arrive_late()
        return web.Response(status=204)


async def _twice(request: web.Request, status: int, answer: dict[str, str]) -> web.StreamResponse:
    """Answer, and answer again without having been asked."""
    body = orjson.dumps(answer)
    response = web.Response(body=body, status=status, content_type="application/json")
    await response.prepare(request)
    await response.write_eof()
    if request.transport is not None:
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n"
        request.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return response


async def serve(port: int, until: Callable[[], Awaitable[object]]) -> None:
    """Answer on this port until that returns."""
    async with Services(port) as services:
        print(f"payment and shipping answer at {services.url}", flush=True)
        await until()


def main() -> None:
    """Answer until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m simulate.services", description=__doc__)
    parser.add_argument("--port", type=int, default=18190)
    port = parser.parse_args().port
    with asyncio.Runner() as runner:
        try:
            runner.run(serve(port, asyncio.Event().wait))
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
