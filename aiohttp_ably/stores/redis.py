"""RedisStore: grants shared by every worker and machine, in Redis 6 or later, or Valkey."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..capability import NOTHING, Capability
from ..capability import strict_json as _json
from .session import named_client

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    from ..request import AuthRequest

# One hash for each client of an Ably app; a field is "<keyName> <resource>", its value a JSON list of
# operations. What an older key of the ring held moves to the newest. A removal that cannot be expressed
# changes nothing, and the first element of the answer says so. `parse` and `common` judge a removal as
# `_resource.Resource` does.
_SCRIPT = """
local ttl, names = ARGV[1], tonumber(ARGV[2])
local newest, ring = ARGV[3], {}
for i = 3, 2 + names do ring[ARGV[i]] = true end
local at = 3 + names
local adds = tonumber(ARGV[at])
local drops = at + 1 + 2 * adds

local function union(one, other)
  if one == nil or one == other then return other end
  local seen, all = {}, {}
  for _, list in ipairs({cjson.decode(one), cjson.decode(other)}) do
    for _, operation in ipairs(list) do
      if operation == '*' then return '["*"]' end
      if not seen[operation] then
        seen[operation] = true
        all[#all + 1] = operation
      end
    end
  end
  table.sort(all)
  return cjson.encode(all)
end

local function parse(text)
  local name, qualifier = text, ''
  if name:sub(1, 1) == '[' then
    local close = name:find(']', 2, true)
    local asked = name:find('?', 2, true)
    if close and asked and asked < close then
      local kept = name:sub(2, asked - 1)
      name = name:sub(close + 1)
      if kept ~= '' then name = '[' .. kept .. ']' .. name end
    end
  end
  if name:sub(1, 1) == '[' then
    local close = name:find(']', 2, true)
    if close then qualifier, name = name:sub(2, close - 1), name:sub(close + 1) end
  end
  local segments = {}
  for segment in (name .. ':'):gmatch('([^:]*):') do segments[#segments + 1] = segment end
  return {qualifier = qualifier, segments = segments}
end

-- Whether two resources name anything in common, and whether that is all that `held` names.
local function common(dropped, held)
  local all = true
  if dropped.qualifier ~= held.qualifier then
    if held.qualifier == '*' then all = false
    elseif dropped.qualifier ~= '*' then return false end
  end
  local d, h = dropped.segments, held.segments
  local short = #d <= #h and d or h
  if #d ~= #h and short[#short] ~= '*' then return false end
  for i = 1, #short do
    if d[i] == '*' and i == #d then return true, all end
    if h[i] == '*' and i == #h then return true, false end
    if h[i] == '*' and d[i] ~= '*' then all = false
    elseif d[i] ~= '*' and d[i] ~= h[i] then return false end
  end
  return true, all
end

local held, stored, moved = {}, {}, {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local space = flat[i]:find(' ', 1, true)
  local name, resource = flat[i]:sub(1, space - 1), flat[i]:sub(space + 1)
  if ring[name] then
    held[resource] = union(held[resource], flat[i + 1])
    if name == newest then stored[resource] = flat[i + 1] else moved[#moved + 1] = flat[i] end
  end
end

for i = at + 1, drops - 1, 2 do held[ARGV[i]] = union(held[ARGV[i]], ARGV[i + 1]) end

local refused, left = 0, {}
for resource, operations in pairs(held) do left[resource] = operations end
local parsed = {}
if drops <= #ARGV then
  for resource in pairs(left) do parsed[resource] = parse(resource) end
end
for i = drops, #ARGV do
  left[ARGV[i]] = nil
  local dropped = parse(ARGV[i])
  for resource in pairs(left) do
    local any, all = common(dropped, parsed[resource])
    if any and all then left[resource] = nil elseif any then refused = 1 end
  end
end
if refused == 0 then held = left end

for resource, operations in pairs(held) do
  if stored[resource] ~= operations then
    redis.call('HSET', KEYS[1], newest .. ' ' .. resource, operations)
  end
end
for resource in pairs(stored) do
  if not held[resource] then redis.call('HDEL', KEYS[1], newest .. ' ' .. resource) end
end
for _, field in ipairs(moved) do redis.call('HDEL', KEYS[1], field) end
redis.call('PEXPIRE', KEYS[1], ttl)

local answer = {refused}
for resource, operations in pairs(held) do
  answer[#answer + 1] = resource
  answer[#answer + 1] = operations
end
return answer
"""
_CONNECTIONS = 50
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """Keeps grants in Redis, for all workers and machines: one hash for each client, one round trip a call.

    `redis` is an asyncio client of redis-py, for one server or a cluster, which stays yours to close; or a
    URL, such as `redis://localhost:6379/0`. `prefix` comes before the names of all keys. What a client holds
    is forgotten `ttl` after it was last used. Needs the extra `redis`.

    What Redis has acknowledged is as durable as its configuration makes it; `appendonly yes` with
    `appendfsync always` loses nothing of it. Raises TypeError for another kind of client.
    """

    keyed_by_client = True

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
        """What the client holds; its time begins anew."""
        return NOTHING if auth.client_id is None else (await self._run(auth))[0]

    async def add(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Keep `capability` too."""
        return (await self._run(auth, add=capability))[0]

    async def remove(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Forget `resources`; raises InvalidCapability where that cannot be expressed."""
        held, refused = await self._run(auth, drop=resources)
        return held.without(*resources) if refused else held

    async def close(self) -> None:
        """Close the connections that were made from a URL."""
        if self._is_ours:
            await self._redis.aclose()

    async def _run(
        self, auth: AuthRequest, *, add: Capability = NOTHING, drop: Iterable[str] = ()
    ) -> tuple[Capability, bool]:
        # Filed under the app, not the key, so that all of it is in one place when keys rotate.
        place = f"{self.prefix}{auth.key.app_id}:{named_client(auth)}"
        arguments: list[str | int] = [self.ttl // timedelta(milliseconds=1), len(auth.keys)]
        arguments += [key.name for key in auth.keys]
        arguments.append(len(add))
        for resource, operations in add.items():
            arguments += (resource, _json.dumps(sorted(operations)))
        answer = await self._evaluate(place, *arguments, *drop)
        pairs = zip(answer[1::2], answer[2::2], strict=True)
        held = {_text(resource): _operations(_text(operations)) for resource, operations in pairs}
        return Capability.from_dict(held), bool(answer[0])

    async def _evaluate(self, *arguments: str | int) -> list[Any]:
        from redis.exceptions import NoScriptError

        try:
            answer: list[Any] = await self._redis.evalsha(_SHA, 1, *arguments)
        except NoScriptError:  # a server that is new, or was restarted; EVAL teaches it to the one at hand
            answer = await self._redis.eval(_SCRIPT, 1, *arguments)
        return answer


def _connect(url: str) -> Redis:
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ImportError("RedisStore needs redis-py: pip install 'aiohttp-ably[redis]'") from None
    # One more try, at once, for a connection that a restart has left dead; what waits longer than the auth
    # server has time is given up there, so nothing here waits for a time of its own.
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
