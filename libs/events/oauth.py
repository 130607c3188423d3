"""Tokens for Kafka's OAUTHBEARER login, by the OAuth 2.0 client credentials grant (RFC 6749, section 4.4)."""

import asyncio
import time

import httpx
from aiokafka.abc import AbstractTokenProvider

TIMEOUT_SECONDS = 10.0
RENEW_AT = 0.8
"""A token is renewed when this share of its life is over, so that a reconnect never meets an expired one."""


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Gets a token when a connection logs in, and hands out the same one until it is time for a new one."""

    def __init__(self, token_url: str, client_id: str, client_secret: str | None, scope: str | None) -> None:
        self._token_url = token_url
        self._login = (client_id, client_secret or "")
        self._form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def token(self) -> str:
        """A token that is still good for a while. Raises httpx.HTTPError when there is none to be had."""
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            answer = await client.post(self._token_url, data=self._form, auth=self._login)
        answer.raise_for_status()
        grant = answer.json()
        self._token = grant["access_token"]
        self._renew_at = asked_at + RENEW_AT * float(grant.get("expires_in", 60))
