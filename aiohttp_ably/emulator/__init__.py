"""A local emulator of Ably, for development and tests: no account and no internet connection.

It answers as Ably does where Ably's documentation or the SDKs' own test suites show the answer;
`unverified` lists the choices where they do not. The auth server plugin never imports it.

The modules, each of which imports only those above it:

    unverified         error codes and limits that are not verified against Ably
    wire               errors (ErrorInfo), protocol messages, JSON and msgpack
    clock              the time and timers, a clock for tests, a mapping whose entries expire
    channels           channels: attachments, messages of the last two minutes, presence members
    apps               apps and their API keys
    credentials        what a request presents, and what that allows to whom
    journal            the log: events, and the tokens that were issued
    tokens             tokens: issued for a TokenRequest, revoked
    verifier           verifies keys, tokens and JWTs
    connection         one realtime connection, and its websocket
    channel_protocol   ATTACH, DETACH, SYNC, MESSAGE and PRESENCE
    realtime           all realtime connections: connect, resume, reauthorize, disconnect
    http, rest         bodies, pages, errors and CORS; the REST routes
    tls                a self-signed certificate
    server             the Emulator: all of this on one port
"""

from .clock import Clock, ManualClock, SystemClock
from .journal import Event, IssuedToken
from .server import Emulator
from .tls import Certificate

__all__ = ["Certificate", "Clock", "Emulator", "Event", "IssuedToken", "ManualClock", "SystemClock"]
