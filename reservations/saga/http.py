"""Payment and shipping over HTTP: the key is the resource's name, so a PUT may be repeated."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from inventory.errors import Outage
from reservations.saga.ports import Charge, Done, No, Parcel

#: The statuses that mean no, and mean it for good.
_NO = frozenset(
    {
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.CONFLICT,
        HTTPStatus.GONE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


class Answer(BaseModel):
    """What both services answer: of which key, its number, and why not."""

    key: str
    number: str = ""
    reason: str = ""


class HttpPayment:
    """A payment service at a URL; see `reservations.saga.ports.Payment`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Ask through this client (`open_client`), which its owner closes."""
        self._http = http

    async def charge(self, key: str, charge: Charge) -> Done | No:
        """`PUT /payments/{key}`."""
        return await _put(self._http, f"/payments/{quote(key, safe='')}", key, asdict(charge))

    async def refund(self, key: str) -> Done | No:
        """`PUT /payments/{key}/refund`."""
        return await _put(self._http, f"/payments/{quote(key, safe='')}/refund", key, {})


class HttpShipping:
    """A shipping service at a URL; see `reservations.saga.ports.Shipping`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Ask through this client (`open_client`), which its owner closes."""
        self._http = http

    async def ship(self, key: str, parcel: Parcel) -> Done | No:
        """`PUT /shipments/{key}`."""
        return await _put(self._http, f"/shipments/{quote(key, safe='')}", key, asdict(parcel))

    async def cancel(self, key: str) -> Done | No:
        """`PUT /shipments/{key}/cancellation`."""
        return await _put(self._http, f"/shipments/{quote(key, safe='')}/cancellation", key, {})


def open_client(
    base_url: str, *, connections: int = 16, timeout_seconds: float = 8.0
) -> httpx.AsyncClient:
    """A client of a service, with so many connections at most; close it in the end."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=timeout_seconds,
        limits=httpx.Limits(max_connections=connections),
        # No proxy of the environment stands between here and a service that handles money.
        trust_env=False,
    )


async def _put(http: httpx.AsyncClient, path: str, key: str, body: dict[str, Any]) -> Done | No:
    """Ask once.

    Raises:
        Outage: anything that is no clear yes or no, the answer to another question included.
    """
    try:
        response = await http.put(path, json=body)
    except httpx.HTTPError as exc:
        raise Outage(f"{http.base_url} does not answer ({_text(exc)}); it is asked again.") from exc
    if not response.is_success and response.status_code not in _NO:
        raise Outage(f"{http.base_url} answers {response.status_code}; it is asked again.")
    try:
        answer = Answer.model_validate_json(response.content)
    except ValidationError as exc:
        raise Outage(
            f"{http.base_url} answers what nobody understands; it is asked again."
        ) from exc
    if answer.key != key:
        raise Outage(f"{http.base_url} answers of {answer.key!r} when asked of {key!r}.")
    if response.is_success:
        return Done(answer.number)
    return No(answer.reason or HTTPStatus(response.status_code).phrase)


def _text(exc: httpx.HTTPError) -> str:
    return str(exc) or type(exc).__name__
