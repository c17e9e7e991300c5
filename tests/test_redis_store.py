"""RedisStore on a real redis-server: what the contract of all stores does not cover."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from apps import auth_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis_server import RedisServer, free_port

from aiohttp_ably import Capability, InvalidCapability, RedisStore

SEGMENTS = st.sampled_from(["a", "b", "*", "", "a*"])
RESOURCES = st.builds(
    lambda qualifier, segments: qualifier + ":".join(segments),
    st.sampled_from(["", "", "", "[*]", "[meta]", "[?rewind=1]", "[meta?x=1]", "[", "[]", "[?][meta]"]),
    st.lists(SEGMENTS, min_size=1, max_size=3),
)
OPERATIONS = st.one_of(
    st.just(["*"]), st.lists(st.sampled_from(["publish", "subscribe", "presence"]), min_size=1)
)
CAPABILITIES = st.dictionaries(RESOURCES, OPERATIONS, max_size=5)


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url) as client:
        await client.flushall()
        yield client


async def calls(client: Redis) -> dict[str, int]:
    """How often each scripting command was sent since the last reset."""
    statistics = await client.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): counted["calls"]
        for name, counted in statistics.items()
        if name in ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_script|load")
    }


PROPERTY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(stored=CAPABILITIES, release=st.lists(RESOURCES, max_size=3))
@PROPERTY
async def test_release_agrees_with_capability_without(
    client: Redis, stored: dict[str, list[str]], release: list[str]
) -> None:
    store, before = RedisStore(client), Capability(stored)
    await client.delete("ably:grants:app1:alice")
    assert await store.change(auth_of(), add=before) == before
    try:
        expected = before.without(*release)
    except InvalidCapability:
        with pytest.raises(InvalidCapability):
            await store.change(auth_of(), release=tuple(release))
        expected = before
    else:
        assert await store.change(auth_of(), release=tuple(release)) == expected
    assert await store.load(auth_of()) == expected


@given(one=CAPABILITIES, other=CAPABILITIES)
@PROPERTY
async def test_add_agrees_with_the_union_of_capabilities(
    client: Redis, one: dict[str, list[str]], other: dict[str, list[str]]
) -> None:
    store, both = RedisStore(client), Capability(one) | Capability(other)
    await client.delete("ably:grants:app1:alice")
    await store.change(auth_of(), add=Capability(one))
    assert await store.change(auth_of(), add=Capability(other)) == both
    assert await store.load(auth_of()) == both


async def test_each_call_is_one_round_trip(client: Redis) -> None:
    store = RedisStore(client)
    await store.change(auth_of(), add=Capability({"a": "publish"}))
    await client.config_resetstat()
    await store.load(auth_of())
    await store.change(auth_of(), add=Capability({"b": "publish"}))
    await store.change(auth_of(), release=("a",))
    assert await calls(client) == {"evalsha": 3}


async def test_script_is_loaded_once_after_redis_lost_it(client: Redis) -> None:
    store = RedisStore(client)
    await client.script_flush()
    await client.config_resetstat()
    await store.change(auth_of(), add=Capability({"a": "publish"}))
    assert await calls(client) == {"evalsha": 1, "eval": 1}
    assert await store.load(auth_of()) == Capability({"a": "publish"})
    assert await calls(client) == {"evalsha": 2, "eval": 1}


async def test_grants_expire_after_their_last_use(client: Redis) -> None:
    store = RedisStore(client, ttl=timedelta(hours=1))
    await store.change(auth_of(), add=Capability({"a": "publish"}))
    (key,) = await client.keys()
    for use in (
        store.load(auth_of()),
        store.change(auth_of(), add=Capability({"a": "publish"})),
        store.change(auth_of(), release=("b",)),
    ):
        await client.pexpire(key, 60_000)
        await use
        assert 3_500_000 < await client.pttl(key) <= 3_600_000


async def test_each_client_of_an_app_has_one_key_under_the_prefix(client: Redis) -> None:
    store = RedisStore(client, prefix="mine:")
    await store.change(auth_of("alice"), add=Capability({"a": "publish", "b": "publish"}))
    await store.change(auth_of("bob:1"), add=Capability({"a": "publish"}))
    await store.change(auth_of("alice", "app2.key1:another0app0altogether"), add=Capability({"a": "publish"}))
    assert set(await client.keys()) == {b"mine:app1:alice", b"mine:app1:bob:1", b"mine:app2:alice"}


async def test_client_without_grants_leaves_no_key_in_redis(client: Redis) -> None:
    store = RedisStore(client)
    await store.load(auth_of())
    await store.change(auth_of(), add=Capability({"a": "publish"}))
    await store.change(auth_of(), release=("a",))
    assert await client.keys() == []


async def test_client_that_decodes_responses_works(client: Redis, redis_server: RedisServer) -> None:
    await RedisStore(client).change(auth_of(), add=Capability({"ünïcode": "publish"}))
    async with Redis.from_url(redis_server.url, decode_responses=True) as decoding:
        assert await RedisStore(decoding).load(auth_of()) == Capability({"ünïcode": "publish"})


async def test_unreadable_entry_is_an_error(client: Redis) -> None:
    store = RedisStore(client)
    await client.set("ably:grants:app1:alice", "a key of another program")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await store.load(auth_of())
    await client.hset("ably:grants:app1:bob", "app1.key1 a", "not JSON")
    with pytest.raises(ValueError, match="Expecting value"):
        await store.load(auth_of("bob"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    """A cluster of one node that has all slots."""
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    server.wait_for("Cluster state changed: ok")
    yield server
    server.close()


async def test_store_works_on_a_cluster(cluster: RedisServer) -> None:
    async with RedisCluster.from_url(cluster.url) as client:
        store = RedisStore(client)
        users = [f"user-{{{number}}}" for number in range(20)]
        for user in users:
            await store.change(auth_of(user), add=Capability({f"room:{user}": "publish", "a": "publish"}))
            await store.change(auth_of(user), release=("a",))
        for user in users:
            assert list(await store.load(auth_of(user))) == [f"room:{user}"]


def test_synchronous_client_is_refused(redis_server: RedisServer) -> None:
    with (
        redis.Redis.from_url(redis_server.url) as blocking,
        pytest.raises(TypeError, match=r"redis\.asyncio"),
    ):
        RedisStore(blocking)  # type: ignore[arg-type]


def test_missing_redis_py_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ImportError, match=r"aiohttp-ably\[redis\]"):
        RedisStore("redis://localhost")


async def test_defaults_are_the_documented_prefix_and_30_days(client: Redis) -> None:
    await RedisStore(client).change(auth_of(), add=Capability({"a": "publish"}))
    assert await client.keys() == [b"ably:grants:app1:alice"]
    assert 0 <= 30 * 86_400_000 - await client.pttl("ably:grants:app1:alice") < 60_000


def test_ttl_of_a_millisecond_is_accepted() -> None:
    ttl = timedelta(milliseconds=1)
    assert RedisStore("redis://localhost", ttl=ttl).ttl == ttl


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1)])
def test_ttl_of_zero_or_less_is_refused(ttl: timedelta) -> None:
    with pytest.raises(ValueError, match="ttl= must be over 0"):
        RedisStore("redis://localhost", ttl=ttl)


async def test_close_closes_only_connections_that_the_store_opened(
    client: Redis, redis_server: RedisServer
) -> None:
    from_url = RedisStore(redis_server.url)
    await from_url.load(auth_of())
    await from_url.close()
    while len(await client.client_list()) > 1:  # the server notices it a little later
        pass
    await RedisStore(client).close()
    assert await client.ping()
