"""Commands become sagas: what is acknowledged when, what is set aside, and what waits in Kafka."""

import asyncio
import itertools

import orjson
import pytest

from inventory.errors import Outage, SettingsError
from inventory.groups import CHECKOUT, TAKES
from inventory.settings import Settings
from inventory.topics import COMMANDS_CHECKOUT, DEAD_LETTER
from stream.agents.checkout import CheckoutAgent
from stream.checkout import checkout_work
from stream.inbox import Batch, Inbox
from stream.pipeline import run_agent
from stream.retry import OUTAGES
from stream.worker import AGENTS, WORKS
from tests.fakes import FakePublisher
from tests.polling import DEADLINE
from tests.recorded import Recorded
from tests.saga_world import a_command

OFFSETS = itertools.count()


class Sagas:
    """`stream.agents.checkout.Intake` in memory; `ended` sagas are open no more."""

    def __init__(self) -> None:
        self.commands = {}
        self.outages = 0
        self.ended = 0
        self.said = []

    async def accept(self, *commands):
        if self.outages:
            self.outages -= 1
            raise Outage("Postgres is away")
        self.said.append(OUTAGES.sentence())
        for command in commands:
            self.commands.setdefault(command.saga, command)
        return [command for command in commands if self.commands[command.saga] != command]

    async def count_open(self, most):
        return min(len(self.commands) - self.ended, most)


def record(command=None, value=None, offset=None):
    return Recorded(
        COMMANDS_CHECKOUT,
        0,
        next(OFFSETS) if offset is None else offset,
        b"ORDER-1",
        command.model_dump_json().encode() if command is not None else value,
    )


class Following:
    """An agent, and what there is around it."""

    def __init__(self, **given) -> None:
        self.sagas, self.publisher, self.inbox = Sagas(), FakePublisher(), Inbox(100)
        self.told = 0
        self.agent = CheckoutAgent(
            self.sagas, self.publisher, lambda: self.inbox.epoch, self._hear, **given
        )

    def _hear(self) -> None:
        self.told += 1

    def deliver(self, *records):
        async def scenario():
            await (await self.agent(Batch(list(records))))

        asyncio.run(scenario())

    def dead(self):
        return [message for message in self.publisher.published if message.topic == DEAD_LETTER]


async def until(check) -> None:
    async with asyncio.timeout(DEADLINE):
        while not check():
            await asyncio.sleep(0)


class Nothing:
    def ready(self):
        return False

    async def step(self):
        raise AssertionError


def test_commands_become_sagas_once_and_whoever_does_them_is_told():
    world, commands = Following(), [a_command() for _ in range(3)]
    world.deliver(*map(record, commands), record(commands[0]))
    world.deliver(record(commands[1]))
    assert list(world.sagas.commands.values()) == commands
    assert world.told == 2
    assert world.publisher.published == []


def wrong(**changes):
    command = orjson.loads(a_command().model_dump_json()) | changes
    return orjson.dumps({name: value for name, value in command.items() if value is not None})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, b"Invalid JSON"),
        (b"{", b"Invalid JSON"),
        (b"\xff", b"Invalid JSON"),
        (b"[]", b"object"),
        (wrong(id=None), b"id: Field required"),
        (wrong(version=2), b"version"),
        (wrong(amount_minor=0), b"amount_minor"),
        (wrong(amount_minor="1"), b"amount_minor"),
        (wrong(reference="a\0b"), b"reference"),
        (wrong(lines=[]), b"lines"),
        (wrong(lines=[{"sku": "A", "quantity": 1}] * 2), b"each SKU"),
        (wrong(lines=[{"sku": "A", "quantity": 2**31}]), b"quantity"),
        (wrong(hold_seconds=1), b"hold_seconds"),
        (wrong(strategy="redis"), b"strategy redis"),
        (wrong(reference="TORN").replace(b"TORN", rb"\ud800"), b"Invalid JSON"),
    ],
)
def test_what_can_never_be_done_is_set_aside_and_the_rest_goes_on(value, reason):
    world, commands = Following(), [a_command(), a_command()]
    world.deliver(record(commands[0]), record(value=value, offset=77), record(commands[1]))
    assert list(world.sagas.commands.values()) == commands
    [dead] = world.dead()
    assert (dead.key, dead.value) == (b"ORDER-1", value)
    headers = dict(dead.headers)
    assert headers["__connect.errors.topic"] == COMMANDS_CHECKOUT.encode()
    assert headers["__connect.errors.offset"] == b"77"
    assert headers["__connect.errors.connector.name"] == b"stockwire-checkout"
    assert reason in headers["__connect.errors.exception.message"]


def test_another_command_under_the_same_id_is_set_aside():
    world, command = Following(), a_command()
    other = command.model_copy(update={"amount_minor": 1})
    world.deliver(record(command), record(other, offset=9))
    assert list(world.sagas.commands.values()) == [command]
    [dead] = world.dead()
    assert dict(dead.headers)["__connect.errors.offset"] == b"9"


def test_an_outage_is_waited_for_and_is_no_dead_letter():
    world = Following()
    world.sagas.outages = 3
    world.deliver(record(a_command()))
    assert len(world.sagas.commands) == 1
    assert world.dead() == []


def test_nothing_is_acknowledged_before_it_is_accepted():
    world = Following()
    world.sagas.outages = 10**9

    async def scenario():
        running = asyncio.create_task(run_agent(world.inbox, world.agent, Nothing()))
        await world.inbox.put([record(a_command(), offset=41)], world.inbox.epoch)
        await until(lambda: OUTAGES.sentence() is not None)
        assert world.inbox.confirmed() == {}
        world.sagas.outages = 0
        await until(lambda: world.inbox.confirmed() == {(COMMANDS_CHECKOUT, 0): 42})
        assert len(world.sagas.commands) == 1
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(scenario())


def test_with_as_many_open_as_may_be_the_others_wait_in_kafka():
    """The inbox is full and stays so: the fetcher stops, and what waits is in no memory."""
    world = Following(most_open=5)
    commands = [a_command() for _ in range(400)]

    async def scenario():
        running = asyncio.create_task(run_agent(world.inbox, world.agent, Nothing()))
        fetched = 0
        putting = None
        for start in range(0, 400, 50):
            some = [record(command) for command in commands[start : start + 50]]
            putting = asyncio.create_task(world.inbox.put(some, world.inbox.epoch))
            await asyncio.wait({putting}, timeout=0.05)
            if not putting.done():
                break
            fetched += 50
        assert putting is not None
        assert not putting.done()
        assert fetched < 400
        assert len(world.sagas.commands) == 5
        sentence = OUTAGES.sentence() or ""
        assert sentence.startswith("5 checkouts are open"), (
            "the watchdog must not take it for a stall"
        )
        assert world.inbox.confirmed() == {}
        world.sagas.ended = 3
        await until(lambda: len(world.sagas.commands) == 8)
        assert world.sagas.said[1] == sentence, "nor while there is room for some of them"
        world.sagas.ended = 10**9
        await until(lambda: putting.done() and len(world.sagas.commands) == fetched + 50)
        await until(lambda: world.inbox.confirmed())
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(scenario())
    assert list(world.sagas.commands.values()) == commands[: len(world.sagas.commands)]
    assert world.dead() == []


def test_who_waits_for_room_gives_its_partitions_up_at_once():
    world = Following(most_open=1)

    async def scenario():
        running = asyncio.create_task(run_agent(world.inbox, world.agent, Nothing()))
        await world.inbox.put([record(a_command()) for _ in range(3)], world.inbox.epoch)
        await until(lambda: OUTAGES.sentence() is not None)
        assert await world.inbox.drain(patience=10)
        assert world.inbox.confirmed() == {}
        assert len(world.sagas.commands) == 1
        # And goes on with what comes afterwards.
        world.sagas.ended = 1
        await world.inbox.put([record(a_command(), offset=7)], world.inbox.epoch)
        await until(lambda: world.inbox.confirmed() == {(COMMANDS_CHECKOUT, 0): 8})
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(scenario())
    assert len(world.sagas.commands) == 2


def test_checkouts_are_a_worker_of_their_own_that_need_not_be_there():
    assert set(WORKS) == set(TAKES) == {*AGENTS, CHECKOUT}
    assert TAKES[CHECKOUT] == (COMMANDS_CHECKOUT,)
    assert CheckoutAgent.name == "stockwire-checkout"


def test_without_services_it_says_which_settings_are_missing():
    class Parts:
        settings = Settings(payment_url="http://127.0.0.1:1")

    with pytest.raises(SettingsError, match=r"set STOCKWIRE_SHIPPING_URL, for instance"):
        asyncio.run(checkout_work(Parts()))
