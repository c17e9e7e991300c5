"""The server's own line to Ably, over the `ably` SDK: revoking tokens, calling clients back, and the time."""

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

log = logging.getLogger(__name__)

MAX_TARGETS = 100
"""The most that Ably takes in one revocation."""
NOT_REVOCABLE = 40163
CLOCK_RETRY = 60.0
"""Seconds until the time is asked again after that failed."""

_CREDENTIALS = frozenset(("auth_callback", "auth_token", "auth_url", "client_id", "key", "key_name"))
_CREDENTIALS |= frozenset(("key_secret", "token", "token_details", "use_token_auth"))
_NO_TOKEN = "every call names its key"  # noqa: S105  (no credential: the SDK wants one to begin with)


class AblyApi:
    """Calls to Ably for any of the server's keys, over one pool of connections.

    `options` are client options of `ably.AblyRest` that say how to reach Ably (TO3): `endpoint`, `port`,
    `tls` and the like; by default it is the real one. A call has `seconds` to be answered. Raises ValueError
    for options that the SDK does not know, that hold credentials, or that would send a key in the clear.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = _checked(options or {})
        self.offset = 0.0
        """How far Ably's clock is ahead of ours, in seconds."""
        self._seconds = seconds
        self._clock = clock
        self._rest: Any = None

    def now(self) -> float:
        """Seconds since the epoch by Ably's clock, as far as it is known."""
        return self._clock() + self.offset

    async def revoke(
        self, keys: KeyRing, targets: Sequence[str], *, margin: bool, issued_before: int | None = None
    ) -> dict[str, int]:
        """Revoke the tokens of `targets`, such as `clientId:alice`, that any of `keys` issued.

        With a `margin` Ably asks connected clients to fetch a new token, and ends what is left of the old
        ones after 30 seconds; without, at once. Tokens issued after `issued_before`, by default now, are
        spared. Returns when it applies for each target. Times are milliseconds since the epoch. Raises
        RevocationFailed, when all else is done, where Ably did not do it for some target.
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
        """What Ably's clock says, in seconds since the epoch; raises Unavailable where it does not answer."""
        answer = await self._answer(lambda rest: rest.http.get("/time", skip_auth=True))
        try:
            return float(answer.to_native()[0]) / 1000
        except (LookupError, TypeError, ValueError):
            raise Unavailable("Ably's answer was no time") from None

    async def set_clock(self) -> bool:
        """Learn how far our clock is off; False, and logged, where Ably cannot be asked."""
        before = self._clock()
        try:
            theirs = await self.time()
        except Unavailable as error:
            log.warning("the clock is not compared with Ably's, and stays as it is: %s", error.message)
            return False
        after = self._clock()
        offset = theirs - (before + after) / 2
        # What is within the time that asking took cannot be told from no difference at all.
        self.offset = offset if abs(offset) > (after - before) / 2 else 0.0
        level = logging.WARNING if abs(self.offset) > 60 else logging.INFO
        log.log(level, "our clock is %.3f s off Ably's, which is allowed for", -self.offset)
        return True

    async def keep_clock(self, every: float, *, learned: bool = True) -> None:
        """Learn it again every so many seconds, sooner where that failed last; until cancelled."""
        while True:
            await asyncio.sleep(every if learned else min(every, CLOCK_RETRY))
            learned = await self.set_clock()

    async def close(self) -> None:
        """Close the SDK's connections."""
        rest, self._rest = self._rest, None
        if rest is not None:
            await rest.close()

    async def _revoke(self, key: ApiKey, body: Mapping[str, object]) -> dict[str, Mapping[str, Any]]:
        """What Ably says of each target; raises Unavailable where it refused the whole, or did not answer."""
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
            # Without the cause: the SDK's frames hold the key.
            raise Unavailable(f"Ably could not be reached: {type(error).__name__} {error}"[:300]) from None


def _why(error: Any, key: ApiKey) -> str:
    """What to tell of an error of Ably's."""
    if not isinstance(error, Mapping):
        return f"Ably did not say what it did for key {key.name}"
    if error.get("code") == NOT_REVOCABLE:
        return (
            f"tokens of key {key.name} are not revocable ({NOT_REVOCABLE}): turn on 'Revocable tokens' for it"
            " in your Ably app's API keys, and give setup() key=ApiKey(..., revocable=True), which keeps"
            " tokens to the one hour they then may live"
        )
    return f"Ably refused it for key {key.name}: {error.get('code')} {error.get('message')}"


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    if not options:
        return options
    if taken := sorted(_CREDENTIALS & options.keys()):
        raise ValueError(f"{', '.join(taken)} cannot be given: key= of setup() says which keys are used")
    from ably import AblyException
    from ably.types.options import Options

    try:
        Options(**options)
    except (AblyException, TypeError) as error:
        raise ValueError(f"not client options of ably.AblyRest: {error}") from None
    if not options.get("tls", True) and not _is_here(options.get("endpoint")):
        raise ValueError(
            "tls=False is for an emulator on this machine, with endpoint='127.0.0.1' say: an API key is not"
            " sent in the clear to another (RSC18)"
        )
    return options


def _is_here(endpoint: object) -> bool:
    if endpoint == "localhost":
        return True
    try:
        return ipaddress.ip_address(str(endpoint)).is_loopback
    except ValueError:
        return False
