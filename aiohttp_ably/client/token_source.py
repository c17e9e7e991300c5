"""Where a Python client gets its tokens: requests to the auth server, one at a time, and what they keep."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import jwt
from ably import AblyException
from yarl import URL

from ..capability import NOTHING, Capability
from ..errors import CapabilityDenied, InvalidCapability, Unavailable
from ..request import GRANT_HEADER

GrantBy = Literal["cookie", "header", "token"]
Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]

_NO_TOKEN = 40170  # Ably's "error from client token callback"
_ACCEPT = "application/json, application/jwt;q=0.9, text/plain;q=0.8"


class AuthServerError(AblyException):  # type: ignore[misc]  # the SDK has no types
    """An auth server's refusal: `message`, `code` and `status_code`, as those of every AblyException."""


@dataclass(frozen=True)
class ReauthorizerEvent:
    """What happened, for those who want to show it. `type` says which of the other members count.

    `request`: the auth server is asked (`asked`, `dropped`, `strict`). `granted`: it answered with a token
    (`asked`, `capability`). `denied`: part of an ask is denied (`denied`, and `error` where the server gave
    one). `failed`: it gave no token for another reason (`error`). `refused`: Ably refused an operation, which
    is about to be put right (`asked`, `error`). `reauthorized`: a new token is in effect (`capability`).
    """

    type: str
    requested: Capability = NOTHING
    dropped: tuple[str, ...] = ()
    strict: bool = False
    capability: Capability = NOTHING
    denied: Capability = NOTHING
    error: Exception | None = None


@dataclass(frozen=True)
class Answer:
    """The members of a TokenRequest or TokenDetails, what it allows, and whose it is."""

    members: Mapping[str, Any]
    capability: Capability
    client_id: str | None

    @property
    def jwt(self) -> str | None:
        """The JWT in it; None where its token is none."""
        token = self.members.get("token", "")
        return token if token.count(".") == 2 else None


class TokenSource:
    """Asks the auth server at `url`, and keeps the client's list and grant; options as for Reauthorizer."""

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
        self.url = URL(url)
        if not self.url.absolute:
            raise ValueError(f"url={str(url)!r} must be whole, such as 'https://app.example.com/ably/auth'")
        if grant_by not in ("cookie", "header", "token"):
            raise ValueError(f"grant={grant_by!r} is none of 'cookie', 'header' and 'token'")
        self._params = params
        self._headers = headers
        self._keeps_list = keeps_list
        self._storage: MutableMapping[str, str] = {} if storage is None else storage
        self._grant_by = grant_by
        self._session = session
        self._opened: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._emit = emit
        self._requesting = asyncio.Lock()
        self.answered = NOTHING
        self.list = NOTHING
        self._grant: str | None = None
        self._owner: tuple[str | None] | None = None  # whose list and grant are held; None: nobody's yet
        self._restore()

    async def request(
        self,
        requested: Capability = NOTHING,
        dropped: tuple[str, ...] = (),
        *,
        strict: bool = False,
        client_id: str | None = None,
        ttl: object = None,
        denial: AuthServerError | None = None,
    ) -> Answer:
        """Ask for a token: `asked` with the list, less `dropped`. Raises AuthServerError."""
        async with self._requesting:
            listed = Capability({name: self.list[name] for name in self.list if name not in dropped})
            wanted = listed | requested
            self._emit(ReauthorizerEvent("request", requested=wanted, dropped=dropped, strict=strict))
            body = {
                **self._params,
                "clientId": None if client_id == "*" else client_id,
                "ttl": ttl,
                "capability": wanted.to_dict() or None,
                "drop": list(dropped) or None,
            }
            try:
                answer = await self._post({k: v for k, v in body.items() if v is not None}, strict)
            except Exception as error:
                if not strict or not is_denial(error):
                    self._emit(ReauthorizerEvent("failed", error=error))
                raise
            stranger = self._owner not in (None, (answer.client_id,)) and (self.list or self._grant)
            if not stranger:
                self._keep(answer, wanted, listed | requested)
                denied = wanted.missing_from(answer.capability)
                self._emit(ReauthorizerEvent("granted", requested=wanted, capability=answer.capability))
                if denied:
                    self._emit(ReauthorizerEvent("denied", denied=denied, error=denial))
                return answer
            self.clear()  # somebody else is signed in now: nothing is carried over
        return await self.request(
            requested, dropped, strict=strict, client_id=client_id, ttl=ttl, denial=denial
        )

    async def fetch(self, method: str, url: str | URL, **options: Any) -> aiohttp.ClientResponse:
        """A request of the app's own, with the grant where it goes to the auth server's origin."""
        target = self.url.join(URL(url))
        ours = target.origin() == self.url.origin()
        headers = {**(options.pop("headers", None) or {}), **(self._grant_headers() if ours else {})}
        async with self._http.request(method, target, headers=headers, **options) as response:
            await response.read()
        if ours:
            self._keep_grant(response.headers.get(GRANT_HEADER))
        return response

    def clear(self) -> None:
        """Forget the list and the grant."""
        self.list, self._grant, self._owner, self.answered = NOTHING, None, None, NOTHING
        self._save()

    async def close(self) -> None:
        """Close the session, unless it was given."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is not None:
            return self._session
        if self._opened is None:
            self._opened = aiohttp.ClientSession()
        return self._opened

    async def _post(self, body: Mapping[str, object], strict: bool) -> Answer:
        headers = dict(self._headers() if callable(self._headers) else self._headers)
        headers |= {"Accept": _ACCEPT, "Prefer": f"handling={'strict' if strict else 'lenient'}"}
        headers |= self._grant_headers()
        try:
            async with self._http.post(
                self.url, json=body, headers=headers, timeout=self._timeout
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, asyncio.TimeoutError, UnicodeDecodeError) as error:
            reason = str(error) or type(error).__name__
            raise AuthServerError(
                f"no answer from {self.url.with_query(None)}: {reason}", Unavailable.status, Unavailable.code
            ) from error
        answer = _read(response, text)
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

    def _keep(self, answer: Answer, wanted: Capability, listed: Capability) -> None:
        self._owner = (answer.client_id,)
        self.answered = answer.capability
        if self._keeps_list:
            self.list = listed - wanted.missing_from(answer.capability)
        self._save()

    @property
    def _name(self) -> str:
        return f"aiohttp-ably:{self.url}"

    def _restore(self) -> None:
        try:
            kept = json.loads(self._storage[self._name])
            self.list = Capability.from_dict(kept["list"])
            self._grant, self._owner = kept["grant"], tuple(kept["owner"])
        except (LookupError, TypeError, ValueError):
            pass  # what is not ours to read counts as nothing held

    def _save(self) -> None:
        if self._owner is None:
            self._storage.pop(self._name, None)
            return
        kept = {"list": self.list.to_dict(), "grant": self._grant, "owner": self._owner}
        self._storage[self._name] = json.dumps(kept)


def is_denial(error: Exception) -> bool:
    """Whether `error` says that a capability does not allow, or will not be given."""
    return isinstance(error, AblyException) and error.code == CapabilityDenied.code


def _read(response: aiohttp.ClientResponse, text: str) -> Answer:
    """The token in a response; raises what the server says in its place."""
    kind = response.content_type
    document = _json_or_none(text) if kind == "application/json" else None
    if not response.ok:
        error = document.get("error") if isinstance(document, dict) else None
        said = error if isinstance(error, dict) else {}
        status = f"the auth server answered with {response.status}"
        message = said.get("message") or response.headers.get("X-Ably-ErrorMessage") or status
        code = said.get("code") or response.headers.get("X-Ably-ErrorCode") or response.status * 100
        raise AuthServerError(message, response.status, int(code))
    if kind in ("application/jwt", "text/plain"):
        document = {"token": text.strip()}
    if not isinstance(document, dict) or not (document.get("token") or document.get("keyName")):
        raise AuthServerError(f"the auth server answered with {kind} and no token", 401, _NO_TOKEN)
    if "token" in document and "issued" not in document:
        # The SDK takes a bare token for one of no client id, and then refuses the next.
        document = {**_details(document["token"]), **document}
    try:
        capability = Capability.parse(document.get("capability") or {})
    except InvalidCapability:
        capability = NOTHING
    return Answer(document, capability, document.get("clientId"))


def _details(token: str) -> dict[str, Any]:
    """The members of TokenDetails that a JWT's claims give."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return {"issued": None}
    details = {
        "issued": claims.get("iat", 0) * 1000,
        "expires": claims.get("exp", 0) * 1000,
        "capability": claims.get("x-ably-capability"),
        "clientId": claims.get("x-ably-clientId"),
    }
    return {name: value for name, value in details.items() if value is not None}


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
