"""API keys and key rings: how they are read, and that their secrets are never shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import traceback
from typing import Any

import pytest
from apps import KEY, KEY_SECRET, NEWER_KEY, OTHER_KEY

from aiohttp_ably import ApiKey, KeyRing


@pytest.mark.parametrize(
    "text",
    ["", "app.key", "app:secret", "app.key:", ".key:secret", f"{KEY}\n", f" {KEY}", "a.b.c:d", "a.b:ü"],
)
def test_incomplete_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"<appId>\.<keyId>:<secret>") as caught:
        ApiKey(text)
    assert not text.strip() or text.strip() not in str(caught.value)


@pytest.mark.parametrize("wrong", [5, None, b"app1.key1:secret"])
def test_key_that_is_not_a_string_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"an Ably API key is a string, got {type(wrong).__name__}"):
        ApiKey(wrong)


@pytest.mark.parametrize("wrong", [None, 5, True])
def test_missing_key_names_the_environment_variable(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"got {wrong}; set the environment variable ABLY_API_KEY, or pass"):
        KeyRing.of(wrong)


def test_key_has_its_parts() -> None:
    key = ApiKey(KEY)
    assert (key.name, key.app_id, key.secret, key.revocable) == ("app1.key1", "app1", KEY_SECRET, False)
    assert key == ApiKey(KEY)
    assert key != ApiKey(f"{KEY}x")
    assert key != ApiKey(f"app1.key2:{KEY_SECRET}")
    assert key != KEY
    assert (key == KEY) is False
    assert len({key, ApiKey(KEY)}) == 1
    assert ApiKey(KEY, revocable=True).revocable
    assert repr(key) == "ApiKey('app1.key1')"


def test_mac_is_hmac_sha256_in_base64() -> None:
    expected = base64.b64encode(hmac.new(KEY_SECRET.encode(), "ü".encode(), hashlib.sha256).digest()).decode()
    key = ApiKey(KEY)
    assert [key.mac("ü"), key.mac("ü")] == [expected, expected]


def test_secret_is_not_in_reprs_logs_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    key = ApiKey(KEY)
    ring = KeyRing([key])
    logging.getLogger("test").warning("%r %s %r %s", key, key, ring, [ring])
    try:
        raise RuntimeError(key, ring)
    except RuntimeError:
        shown = traceback.format_exc()
    assert KEY_SECRET not in caplog.text + shown


def test_newest_key_comes_first_and_all_are_found_by_name() -> None:
    ring = KeyRing(["app1.key2:secret-two", KEY])
    assert ring.newest.name == "app1.key2"
    assert ring.get("app1.key1") == ApiKey(KEY)
    assert ring.get("app1.key3") is None
    assert ring.get(None) is None
    assert ring.get(["app1.key1"]) is None
    assert [key.name for key in ring] == ["app1.key2", "app1.key1"]
    assert len(ring) == 2
    assert repr(ring) == "KeyRing([ApiKey('app1.key2'), ApiKey('app1.key1')])"
    assert KeyRing.of(ring) is ring
    assert list(KeyRing(iter([KEY]))) == [ApiKey(KEY)]
    assert len(KeyRing.of(KEY)) == len(KeyRing.of(ApiKey(KEY))) == len(KeyRing.of([KEY])) == 1


def test_key_ring_has_keys_of_one_app() -> None:
    with pytest.raises(ValueError, match="belong to one Ably app"):
        KeyRing([KEY, OTHER_KEY])
    with pytest.raises(ValueError, match="at least one"):
        KeyRing([])


def test_two_keys_of_one_name_are_refused() -> None:
    for twin in (KEY, "app1.key1:another-secret"):
        message = "two keys of a KeyRing have one name, got app1.key2, app1.key1, app1.key1"
        with pytest.raises(ValueError, match=message) as refused:
            KeyRing([NEWER_KEY, KEY, ApiKey(twin)])
        assert KEY_SECRET not in str(refused.value)
