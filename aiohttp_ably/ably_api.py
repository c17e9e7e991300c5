"""AblyApi: the auth server's requests to Ably's REST API, over the `ably` SDK."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._callbacks import timeout
from .errors import RevocationFailed, Unavailable
from .keys import ApiKey, KeyRing
from .tokens import TokenRequest

log: logging.Logger = logging.getLogger(__name__)

MAX_TARGETS = 100
"""The most targets of one revocation at Ably."""
NOT_REVOCABLE = 40163
CLOCK_RETRY = 60.0
"""Seconds until the time is requested from Ably again after a failure."""

_CREDENTIALS = frozenset(("auth_callback", "auth_token", "auth_url", "client_id", "key", "key_name"))
_CREDENTIALS |= frozenset(("key_secret", "token", "token_details", "use_token_auth"))
_NO_TOKEN = "every request names its key"  # noqa: S105  (no credential: the SDK cannot start without one)


class AblyApi:
    """Ably's REST API for all keys of the auth server, over one pool of connections.

    Args:
        options: client options of `ably.AblyRest` that say how to reach Ably (TO3), such as `endpoint`; by
            default the real Ably.
        seconds: the time in which Ably must answer a request.
        clock: returns the time of this machine, in seconds since the epoch.

    Raises:
        ValueError: the SDK does not know an option, or an option is a credential, or would send an API key
            without encryption to another machine.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options: Mapping[str, Any] = _checked(options or {})
        self.offset: float = 0.0
        """How far Ably's clock is ahead of this machine's, in seconds."""
        self._seconds = seconds
        self._clock = clock
        self._rest: Any = None

    def now(self) -> float:
        """The time in seconds since the epoch, by Ably's clock as far as it is known."""
        return self._clock() + self.offset

    async def revoke(
        self, keys: KeyRing, targets: Sequence[str], *, margin: bool, issued_before: int | None = None
    ) -> dict[str, int]:
        """Revoke the tokens of `targets`, such as `clientId:alice`, that any of `keys` issued (RSA17).

        Args:
            keys: the API keys whose tokens are revoked.
            targets: what Ably calls targets: `clientId:…` or `revocationKey:…`.
            margin: whether Ably first tells connected clients to fetch a new token, and refuses the old one
                only after 30 seconds.
            issued_before: tokens issued later are not revoked; in milliseconds since the epoch, by default
                the time of the request.

        Returns the time from which the tokens of each target are refused, in milliseconds since the epoch.
        Raises RevocationFailed, after all other targets, when Ably did not revoke the tokens of one.
        """
        applies: dict[str, int] = {}
        failed: dict[str, str] = {}
        for key in keys:
            for first in range(0, len(targets), MAX_TARGETS):
                batch = targets[first : first + MAX_TARGETS]
                body: dict[str, object] = {"targets": list(batch), "allowReauthMargin": margin}
                if issued_before is not None:
                    body["issuedBefore"] = issued_before
                try:
                    results = await self._revoke(key, body)
                except Unavailable as error:
                    failed |= dict.fromkeys(batch, error.message)
                    continue
                for target in batch:
                    result = results.get(target, {})
                    if isinstance(when := result.get("appliesAt"), (int, float)):
                        applies[target] = max(int(when), applies.get(target, 0))
                    else:
                        failed[target] = _why(result.get("error"), key)
        if failed:
            log.error(
                "%d of %d revocations failed: %s", len(failed), len(targets), sorted(set(failed.values()))
            )
            raise RevocationFailed(
                failed, {name: when for name, when in applies.items() if name not in failed}
            )
        return applies

    async def time(self) -> float:
        """The time by Ably's clock, in seconds since the epoch; raises Unavailable without an answer."""
        answer = await self._answer(lambda rest: rest.http.get("/time", skip_auth=True))
        try:
            return float(answer.to_native()[0]) / 1000
        except (LookupError, TypeError, ValueError):
            raise Unavailable("Ably's answer is not a time") from None

    async def request_token(self, request: TokenRequest) -> dict[str, object]:
        """The members of the TokenDetails that Ably issues for `request` (RSA8e).

        Raises Unavailable when Ably issues no token.
        """
        # The SDK's own request_token() misreads a capability that contains an apostrophe.
        path = f"/keys/{request.key_name}/requestToken"
        answer = await self._answer(lambda rest: rest.http.post(path, body=request.to_dict(), skip_auth=True))
        details = answer.to_native()
        if not isinstance(details, Mapping) or not details.get("token"):
            raise Unavailable("Ably's answer contains no token")
        names = ("token", "keyName", "issued", "expires", "capability", "clientId")
        return {name: details[name] for name in names if details.get(name) is not None}

    async def set_clock(self) -> bool:
        """Compare this machine's clock with Ably's; False, with a line in the log, when that failed."""
        before = self._clock()
        try:
            theirs = await self.time()
        except Unavailable as error:
            log.warning("the clock could not be compared with Ably's: %s", error.message)
            return False
        after = self._clock()
        offset = theirs - (before + after) / 2
        # A difference within the duration of the request may be no difference at all.
        self.offset = offset if abs(offset) > (after - before) / 2 else 0.0
        level = logging.WARNING if abs(self.offset) > 60 else logging.INFO
        log.log(level, "this machine's clock differs by %.3f s from Ably's; tokens use Ably's", -self.offset)
        return True

    async def keep_clock(self, every: float, *, learned: bool = True) -> None:
        """Compare the clocks every `every` seconds, sooner after a failure, until cancelled."""
        while True:
            await asyncio.sleep(every if learned else min(every, CLOCK_RETRY))
            learned = await self.set_clock()

    async def close(self) -> None:
        """Close the SDK's connections."""
        rest, self._rest = self._rest, None
        if rest is not None:
            await rest.close()

    async def _revoke(self, key: ApiKey, body: Mapping[str, object]) -> dict[str, Mapping[str, Any]]:
        """Ably's result for each target; raises Unavailable when Ably refuses or does not answer."""
        from ably import api_version

        credentials = base64.b64encode(f"{key.name}:{key.secret}".encode()).decode()
        path = f"/keys/{key.name}/revokeTokens"
        headers = {"Authorization": f"Basic {credentials}"}
        answer = await self._answer(
            lambda rest: rest.request("POST", path, version=api_version, body=body, headers=headers)
        )
        items = [item for item in answer.items if isinstance(item, Mapping)]
        if not answer.success:
            raise Unavailable(_why(items[0].get("error") if items else None, key))
        if len(items) == 1 and isinstance(results := items[0].get("results"), list):
            items = [item for item in results if isinstance(item, Mapping)]
        return {str(item.get("target")): item for item in items}

    async def _answer(self, call: Callable[[Any], Any]) -> Any:
        from ably import AblyRest

        if self._rest is None:
            self._rest = AblyRest(token=_NO_TOKEN, **{"use_binary_protocol": False, **self.options})
        try:
            async with timeout(self._seconds):
                return await call(self._rest)
        except asyncio.TimeoutError:
            raise Unavailable(f"Ably did not answer within {self._seconds:g} s") from None
        except Exception as error:
            # Without the cause: a variable in the SDK's frames contains the key.
            raise Unavailable(f"Ably could not be reached: {type(error).__name__} {error}"[:300]) from None


def _why(error: Any, key: ApiKey) -> str:
    """The reason of an error that Ably returned."""
    if not isinstance(error, Mapping):
        return f"Ably's answer for key {key.name} gives no result"
    if error.get("code") == NOT_REVOCABLE:
        return (
            f"tokens of key {key.name} are not revocable ({NOT_REVOCABLE}): turn on 'Revocable tokens' for it"
            " in your Ably app's API keys, and pass key=ApiKey(..., revocable=True) to setup(), which limits"
            " the lifetime of tokens to one hour"
        )
    return f"Ably refused the revocation for key {key.name}: {error.get('code')} {error.get('message')}"


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    if not options:
        return options
    if taken := sorted(_CREDENTIALS & options.keys()):
        raise ValueError(f"{', '.join(taken)} cannot be set here: key= of setup() says which keys are used")
    from ably import AblyException
    from ably.types.options import Options

    try:
        Options(**options)
    except (AblyException, TypeError) as error:
        raise ValueError(f"not client options of ably.AblyRest: {error}") from None
    if not options.get("tls", True) and not _is_loopback(options.get("endpoint")):
        raise ValueError(
            "tls=False is for an emulator on this machine, with endpoint='127.0.0.1' for example: an API key"
            " is not sent without encryption to another machine (RSC18)"
        )
    return options


def _is_loopback(endpoint: object) -> bool:
    if endpoint == "localhost":
        return True
    try:
        return ipaddress.ip_address(str(endpoint)).is_loopback
    except ValueError:
        return False
