"""A local emulator of Ably, for development and tests: no account, no network, no waiting.

The plugin never imports it. It answers as Ably does as far as that is documented or seen in SDKs' own tests;
`unverified` lists the choices it had to make.
"""

from .clock import Clock, ManualClock, SystemClock
from .log import Event, IssuedToken
from .server import Emulator
from .tls import Certificate

__all__ = ["Certificate", "Clock", "Emulator", "Event", "IssuedToken", "ManualClock", "SystemClock"]
