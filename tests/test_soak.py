"""A short run of the soak test. `python -m benchmarks.soak` is the full one."""

from __future__ import annotations

from real_parts import require_redis_server

from benchmarks.soak import soak


def test_a_second_of_full_load_has_no_error_response() -> None:
    require_redis_server()
    load = soak(1)
    assert load.statuses.keys() == {200}
    assert load.memory
