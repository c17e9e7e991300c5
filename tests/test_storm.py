"""The simulation of many clients: with jitter they do not renew together."""

from __future__ import annotations

import random

import pytest

from benchmarks.storm import HOUR, Outage, mass_reconnect, outages, peak, simulate


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(1)


def test_renewals_after_a_mass_reconnect_peak_ten_times_lower_with_jitter() -> None:
    jittered, plain = mass_reconnect(20_000)
    assert peak(plain, HOUR // 2) >= 10 * peak(jittered, HOUR // 2)


def test_no_token_is_issued_in_an_outage_and_all_clients_return_after_it() -> None:
    outage = Outage(HOUR, HOUR + 300)
    issued = simulate(5_000, jitter=0.1, spread=HOUR, until=2 * HOUR, outage=outage)
    assert sum(issued[outage.start : outage.end]) == 0
    assert sum(issued[outage.end : outage.end + 31]) > 5_000 * 300 / HOUR


def test_jitter_spreads_the_renewals_an_hour_after_an_outage() -> None:
    jittered, plain = (int(row.split("|")[-2].replace(",", "")) for row in outages(20_000, 15))
    assert plain > 3 * jittered
