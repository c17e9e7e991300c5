"""The soak itself works; how long it runs and what it finds is for `python -m benchmarks.soak` to say."""

from __future__ import annotations

from real_parts import require_redis_server

from benchmarks.soak import soak


def test_a_moment_at_full_load_has_no_error_answer() -> None:
    require_redis_server()
    load = soak(1)
    assert load.statuses.keys() == {200}
    assert load.memory
