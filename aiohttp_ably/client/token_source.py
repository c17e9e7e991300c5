"""Request tokens from the auth server, one request at a time, and keep the client's list and grant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from yarl import URL

from ..capability import NOTHING, Capability
from ..errors import Unavailable
from ..request import GRANT_HEADER
from .answers import Answer, AuthServerError, is_denial, read_answer

GrantBy = Literal["cookie", "header", "token"]
Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]

_ACCEPT = "application/json, application/jwt;q=0.9, text/plain;q=0.8"


@dataclass(frozen=True)
class ReauthorizerEvent:
    """One step of a Reauthorizer, for `on_event`. Members that its type does not have keep their defaults.

    Types:

    - `request`: a request is sent to the auth server (`requested`, `released`, `strict`).
    - `granted`: the auth server answered with a token (`requested`, `capability`).
    - `denied`: the auth server denied a part of the requested capability (`denied`, `error`).
    - `failed`: the auth server gave no token; a denied strict request is `denied` instead (`error`).
    - `refused`: Ably refused an operation with 40160, and `guard` requests what it needs
      (`requested`, `error`).
    - `reauthorized`: a new token is in effect (`capability`).

    Members:

    - `requested`: the capability that is requested of the auth server.
    - `released`: the resources that the client releases.
    - `strict`: True if the auth server is to answer a denial with an error, not with a token that omits the
      denied part (`Prefer: handling=strict`).
    - `capability`: what the new token allows.
    - `denied`: the requested part that the new token does not allow. After a strict request without a token:
      all that was requested.
    - `error`: the error of the auth server or of Ably; None for a `denied` part of a request that was not
      strict.
    """

    type: str
    requested: Capability = NOTHING
    released: tuple[str, ...] = ()
    strict: bool = False
    capability: Capability = NOTHING
    denied: Capability = NOTHING
    error: Exception | None = None


class TokenSource:
    """Requests tokens from the auth server at `url`. The parameters are those of Reauthorizer.

    `list` is the client's list, empty unless `keeps_list`; `last_capability` is that of the last token.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        params: Mapping[str, object],
        headers: Headers,
        keeps_list: bool,
        storage: MutableMapping[str, str] | None,
        grant_by: GrantBy,
        session: aiohttp.ClientSession | None,
        timeout: float,
        emit: Callable[[ReauthorizerEvent], object],
    ) -> None:
        self.url: URL = URL(url)
        if not self.url.absolute:
            raise ValueError(
                f"url={str(url)!r} must be absolute, for example 'https://app.example.com/ably/auth'"
            )
        if grant_by not in ("cookie", "header", "token"):
            raise ValueError(f"grant={grant_by!r} must be one of 'cookie', 'header' and 'token'")
        self._params = params
        self._headers = headers
        self._keeps_list = keeps_list
        self._storage: MutableMapping[str, str] = {} if storage is None else storage
        self._grant_by = grant_by
        self._given_session = session
        self._own_session: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._emit = emit
        self._requesting = asyncio.Lock()
        self.last_capability: Capability = NOTHING
        self.list: Capability = NOTHING
        self._grant: str | None = None
        self._client_id: str | None = None  # whose list and grant these are
        self._client_id_known = False  # until the first token; None is the client id of an anonymous client
        self._restore()

    async def request(
        self,
        requested: Capability = NOTHING,
        released: tuple[str, ...] = (),
        *,
        strict: bool = False,
        client_id: str | None = None,
        ttl: object = None,
        denial: AuthServerError | None = None,
    ) -> Answer:
        """Request a token for `requested` and the client's list, without `released`.

        `strict`: the server answers a denied part with an error, not with a token that omits it.
        `client_id`, `ttl` (milliseconds): as the SDK's token params have them.
        `denial`: the error of a strict request before this one, for the `denied` event.

        Raises AuthServerError where the server gives no token.
        """
        async with self._requesting:
            listed = requested | Capability(
                {name: operations for name, operations in self.list.items() if name not in released}
            )
            self._emit(ReauthorizerEvent("request", requested=listed, released=released, strict=strict))
            body = {
                **self._params,
                "clientId": None if client_id == "*" else client_id,
                "ttl": ttl,
                "capability": listed.to_dict() or None,
                "drop": list(released) or None,
            }
            try:
                answer = await self._post({k: v for k, v in body.items() if v is not None}, strict)
            except Exception as error:
                if not strict or not is_denial(error):
                    self._emit(ReauthorizerEvent("failed", error=error))
                raise
            if not self._keeps_anything_of_another_client(answer.client_id):
                denied = listed.missing_from(answer.capability)
                self._keep(answer, listed - denied)
                self._emit(ReauthorizerEvent("granted", requested=listed, capability=answer.capability))
                if denied:
                    self._emit(ReauthorizerEvent("denied", denied=denied, error=denial))
                return answer
            self.clear()
        return await self.request(
            requested, released, strict=strict, client_id=client_id, ttl=ttl, denial=denial
        )

    async def fetch(self, method: str, url: str | URL, **options: Any) -> aiohttp.ClientResponse:
        """Send one of the app's own requests; to the auth server's origin it carries the grant."""
        target = self.url.join(URL(url))
        same_origin = target.origin() == self.url.origin()
        headers = {**(options.pop("headers", None) or {}), **(self._grant_headers() if same_origin else {})}
        async with self._session.request(method, target, headers=headers, **options) as response:
            await response.read()
        if same_origin:
            self._keep_grant(response.headers.get(GRANT_HEADER))
        return response

    def clear(self) -> None:
        """Forget the list, the grant and their client id."""
        self.list, self._grant, self.last_capability = NOTHING, None, NOTHING
        self._client_id, self._client_id_known = None, False
        self._save()

    async def close(self) -> None:
        """Close the session that was opened here."""
        if self._own_session is not None:
            await self._own_session.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._given_session is not None:
            return self._given_session
        if self._own_session is None:
            self._own_session = aiohttp.ClientSession()
        return self._own_session

    async def _post(self, body: Mapping[str, object], strict: bool) -> Answer:
        headers = dict(self._headers() if callable(self._headers) else self._headers)
        headers |= {"Accept": _ACCEPT, "Prefer": f"handling={'strict' if strict else 'lenient'}"}
        headers |= self._grant_headers()
        try:
            async with self._session.post(
                self.url, json=body, headers=headers, timeout=self._timeout
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, asyncio.TimeoutError, UnicodeDecodeError) as error:
            reason = str(error) or type(error).__name__
            raise AuthServerError(
                f"no answer from {self.url.with_query(None)}: {reason}", Unavailable.status, Unavailable.code
            ) from error
        answer = read_answer(response, text)
        self._keep_grant(
            response.headers.get(GRANT_HEADER, answer.jwt if self._grant_by == "token" else None)
        )
        return answer

    def _grant_headers(self) -> dict[str, str]:
        if self._grant_by == "cookie" and self._grant is None:
            return {}
        return {GRANT_HEADER: self._grant or ""}

    def _keep_grant(self, grant: str | None) -> None:
        if grant is not None and grant != self._grant:
            self._grant = grant
            self._save()

    def _keeps_anything_of_another_client(self, client_id: str | None) -> bool:
        another = self._client_id_known and self._client_id != client_id
        return another and bool(self.list or self._grant)

    def _keep(self, answer: Answer, granted: Capability) -> None:
        self._client_id, self._client_id_known = answer.client_id, True
        self.last_capability = answer.capability
        if self._keeps_list:
            self.list = granted
        self._save()

    @property
    def _storage_name(self) -> str:
        return f"aiohttp-ably:{self.url}"

    def _restore(self) -> None:
        try:
            kept = json.loads(self._storage[self._storage_name])
            listed = Capability.from_dict(kept["list"])
            self._grant, self._client_id = kept["grant"], kept["clientId"]
            self.list = listed
            self._client_id_known = True
        except (LookupError, TypeError, ValueError):
            pass  # an entry that was not written here counts as nothing granted

    def _save(self) -> None:
        if not self._client_id_known:
            self._storage.pop(self._storage_name, None)
            return
        kept = {"list": self.list.to_dict(), "grant": self._grant, "clientId": self._client_id}
        self._storage[self._storage_name] = json.dumps(kept)
