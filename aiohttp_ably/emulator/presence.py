"""Who is present on a channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from .failure import Failure
from .wire import Item

MAX_MEMBERS = 1_000
_FIXTURE = "fixture"


class PresenceAction(IntEnum):
    """What a presence message tells (TP2)."""

    ABSENT = 0
    PRESENT = 1
    ENTER = 2
    LEAVE = 3
    UPDATE = 4


class Presence:
    """The members of a channel, one for each connection and client id; at most 1,000."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], Item] = {}

    def apply(self, item: Item) -> Item:
        """Let a member enter, update or leave, and return what to tell the others.

        Raises Failure 91003 when there is no room, 40000 for another action.
        """
        member = (item["connectionId"], item["clientId"])
        action = item["action"]
        if action == PresenceAction.LEAVE:
            held = self._members.pop(member, {})
            return {name: held[name] for name in ("data", "encoding") if name in held} | item
        if action not in (PresenceAction.ENTER, PresenceAction.UPDATE, PresenceAction.PRESENT):
            raise Failure(40000, 400, f"a client cannot send presence action {action}")
        if member not in self._members and len(self._members) >= MAX_MEMBERS:
            raise Failure(91003, 400, f"the channel has its maximum of {MAX_MEMBERS} members")
        self._members[member] = item | {"action": int(PresenceAction.PRESENT)}
        return item

    def leave(self, connection_id: str, timestamp: int) -> list[Item]:
        """Let all members of a connection leave; what to tell the others."""
        gone = [member for member in self._members if member[0] == connection_id]
        told = {"action": int(PresenceAction.LEAVE), "timestamp": timestamp}
        # An id of the connection's own would be compared with that of its ENTER, and found no newer (RTP2b).
        return [
            self._members.pop(member) | told | {"id": f"left-{timestamp}:0:{number}"}
            for number, member in enumerate(gone)
        ]

    def present(self) -> list[Item]:
        """All members, as PRESENT."""
        return list(self._members.values())

    def preload(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Put members there that belong to no connection."""
        for number, member in enumerate(members):
            client_id = str(member.get("clientId"))
            item: Item = {
                "id": f"{_FIXTURE}:0:{number}",
                "action": int(PresenceAction.PRESENT),
                "clientId": client_id,
                "connectionId": _FIXTURE,
                "timestamp": 0,
            }
            self._members[_FIXTURE, client_id] = item | {
                name: member[name] for name in ("data", "encoding") if member.get(name) is not None
            }

    def __contains__(self, connection_id: str) -> bool:
        return any(member[0] == connection_id for member in self._members)

    def __len__(self) -> int:
        return len(self._members)
