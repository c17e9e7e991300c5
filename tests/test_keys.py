"""API keys and rings of them: whole or refused, and never shown."""

from __future__ import annotations

import logging
import traceback

import pytest
from apps import KEY, OTHER_KEY

from aiohttp_ably import ApiKey, KeyRing

SECRET = KEY.partition(":")[2]


@pytest.mark.parametrize(
    "text",
    ["", "app.key", "app:secret", "app.key:", ".key:secret", f"{KEY}\n", f" {KEY}", "a.b.c:d", "a.b:ü"],
)
def test_incomplete_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"<appId>\.<keyId>:<secret>") as caught:
        ApiKey(text)
    assert not text.strip() or text.strip() not in str(caught.value)


def test_missing_key_names_the_environment_variable() -> None:
    with pytest.raises(TypeError, match="ABLY_API_KEY"):
        KeyRing.of(None)  # type: ignore[arg-type]


def test_key_has_its_parts() -> None:
    key = ApiKey(KEY)
    assert (key.name, key.app_id, key.secret, key.revocable) == ("app1.key1", "app1", SECRET, False)
    assert key == ApiKey(KEY)
    assert key != ApiKey(f"{KEY}x")
    assert len({key, ApiKey(KEY)}) == 1


def test_secret_is_not_in_reprs_logs_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    key = ApiKey(KEY)
    ring = KeyRing([key])
    logging.getLogger("test").warning("%r %s %r %s", key, key, ring, [ring])
    try:
        raise RuntimeError(key, ring)
    except RuntimeError:
        shown = traceback.format_exc()
    assert SECRET not in caplog.text + shown


def test_newest_key_comes_first_and_all_are_found_by_name() -> None:
    ring = KeyRing(["app1.key2:secret-two", KEY])
    assert ring.newest.name == "app1.key2"
    assert ring.get("app1.key1") == ApiKey(KEY)
    assert ring.get("app1.key3") is None
    assert ring.get(None) is None
    assert [key.name for key in ring] == ["app1.key2", "app1.key1"]
    assert KeyRing.of(ring) is ring
    assert len(KeyRing.of(KEY)) == len(KeyRing.of(ApiKey(KEY))) == len(KeyRing.of([KEY])) == 1


def test_key_ring_has_keys_of_one_app() -> None:
    with pytest.raises(ValueError, match="belong to one Ably app"):
        KeyRing([KEY, OTHER_KEY])
    with pytest.raises(ValueError, match="at least one"):
        KeyRing([])
