"""RedisStore: grants that all workers and machines share, in Redis 6 or later, or Valkey."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..capability import NOTHING, Capability, strict_json
from ..request import AuthRequest
from .base import CapabilityStore, required_client_id

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

_SCRIPT = Path(__file__).with_name("redis.lua").read_text()
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_CONNECTIONS = 50


class RedisStore(CapabilityStore):
    """Stores grants in Redis: one hash for each client, one round trip for each call.

    A change that Redis has acknowledged is as durable as the configuration of Redis: with `appendonly yes`
    and `appendfsync always` a crash loses no such change. Needs the extra `redis`.

    Args:
        redis: an asyncio client of redis-py for one server or a cluster, which your app closes; or a
            URL such as `redis://localhost:6379/0`, whose connections `close` closes.
        prefix: the start of the names of all keys in Redis.
        ttl: how long the grants of a client are kept after their last use.

    Raises:
        TypeError: `redis` is a client of another kind.
        ValueError: `ttl` is not over 0.
        ImportError: redis-py is not installed.
    """

    def __init__(
        self,
        redis: Redis | RedisCluster | str,
        *,
        prefix: str = "ably:grants:",
        ttl: timedelta = timedelta(days=30),
    ) -> None:
        if ttl <= timedelta(0):
            raise ValueError("ttl= must be over 0, such as timedelta(days=30)")
        self.prefix = prefix
        self.ttl = ttl
        self._is_ours = isinstance(redis, str)
        self._redis: Any = _connect(redis) if isinstance(redis, str) else _checked(redis)

    async def load(self, auth: AuthRequest) -> Capability:
        """What was granted to the client. Its `ttl` starts again."""
        return NOTHING if auth.client_id is None else (await self._run(auth, NOTHING, ()))[0]

    async def change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        """Release and add in one round trip."""
        granted, refused = await self._run(auth, add, release)
        return granted.without(*release) if refused else granted  # raises when refused

    async def close(self) -> None:
        """Close the connections that were opened from a URL."""
        if self._is_ours:
            await self._redis.aclose()

    async def _run(
        self, auth: AuthRequest, add: Capability, release: tuple[str, ...]
    ) -> tuple[Capability, bool]:
        """What is granted after the change, and whether Redis refused a release that cannot be expressed."""
        # The key names the app, not the API key, so that all grants stay in one place when keys rotate.
        place = f"{self.prefix}{auth.keys.newest.app_id}:{required_client_id(auth)}"
        names = auth.keys.names
        arguments: list[str | int] = [self.ttl // timedelta(milliseconds=1), len(names), *names, len(add)]
        for resource, operations in add.items():
            arguments += (resource, strict_json.dumps(sorted(operations)))
        answer = await self._evaluate(place, *arguments, *release)
        pairs = zip(answer[1::2], answer[2::2], strict=True)
        granted = {_text(resource): _operations(_text(operations)) for resource, operations in pairs}
        return Capability.from_dict(granted), bool(answer[0])

    async def _evaluate(self, *arguments: str | int) -> list[Any]:
        from redis.exceptions import NoScriptError

        try:
            answer: list[Any] = await self._redis.evalsha(_SHA, 1, *arguments)
        except NoScriptError:  # a new or restarted server; EVAL loads the script into the node that answered
            answer = await self._redis.eval(_SCRIPT, 1, *arguments)
        return answer


def _connect(url: str) -> Redis:
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ImportError("RedisStore needs redis-py: pip install 'aiohttp-ably[redis]'") from None
    # One retry at once, for a connection that a restart of Redis has closed. No timeout here: the auth server
    # has one for the whole request.
    retry = Retry(NoBackoff(), 1)
    pool = BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=None, retry=retry)
    client: Redis = Redis.from_pool(pool)
    return client


def _checked(client: object) -> object:
    module = type(client).__module__
    if not hasattr(client, "evalsha") or ".asyncio" not in module:
        raise TypeError(
            "RedisStore takes a client of redis.asyncio, or a URL such as 'redis://localhost:6379/0'; got"
            f" {module}.{type(client).__qualname__}"
        )
    return client


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


@lru_cache(maxsize=1024)
def _operations(text: str) -> list[str]:
    named: list[str] = json.loads(text)
    return named
