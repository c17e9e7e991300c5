"""The rooms: which there are, whom each lets in, and what their owners changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

PREFIX = "chat:"
OPERATIONS = ("publish", "subscribe", "presence")


@dataclass
class Room:
    """A room. One that has an owner lets in only the owner and those the owner admitted."""

    name: str
    title: str
    about: str
    owner: str | None = None
    members: set[str] = field(default_factory=set)
    knocks: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    @property
    def channel(self) -> str:
        """The Ably channel that carries the room."""
        return PREFIX + self.name

    def lets_in(self, person: str) -> bool:
        """Whether `person` may be here."""
        return self.owner is None or person == self.owner or person in self.members

    def seen_by(self, person: str) -> dict[str, object]:
        """What `person` is told of the room: its members only when let in, who knocks only as its owner."""
        return {
            "name": self.name,
            "title": self.title,
            "about": self.about,
            "channel": self.channel,
            "owner": self.owner,
            "open": self.owner is None,
            "allowed": self.lets_in(person),
            "members": sorted(self.members) if self.lets_in(person) else [],
            "knocks": sorted(self.knocks) if person == self.owner else [],
            "knocked": person in self.knocks,
        }


class Rooms:
    """All rooms. They live in this process, and start anew with it."""

    def __init__(self) -> None:
        rooms = (
            Room("lobby", "Lobby", "Everybody may talk here, from the first token on."),
            Room("garden", "Garden", "Open to everybody who asks."),
            Room("studio", "Studio", "For members. Ada decides who is one.", owner="Ada"),
            Room("workshop", "Workshop", "For members. Ben decides who is one.", owner="Ben"),
        )
        self._rooms = {room.name: room for room in rooms}
        self._changes: Counter[str] = Counter()

    def __getitem__(self, name: str) -> Room:
        """The room of that name; raises HTTPNotFound."""
        if name not in self._rooms:
            raise web.HTTPNotFound(text=f"there is no room {name[:50]!r}")
        return self._rooms[name]

    def owned(self, name: str, person: str) -> Room:
        """The same, for its owner; raises HTTPForbidden for anybody else."""
        room = self[name]
        if room.owner != person:
            raise web.HTTPForbidden(text=f"only the owner of the {room.title} may do that")
        return room

    def seen_by(self, person: str) -> list[dict[str, object]]:
        """What `person` is told of all rooms."""
        return [room.seen_by(person) for room in self._rooms.values()]

    def lets_in(self, name: str, person: str) -> bool:
        """Whether there is such a room, and `person` may be there."""
        return name in self._rooms and self._rooms[name].lets_in(person)

    def channels_of(self, person: str) -> list[str]:
        """The channels of all rooms that `person` may be in."""
        return [room.channel for room in self._rooms.values() if room.lets_in(person)]

    def taken_from(self, person: str) -> list[str]:
        """The channels that `person` was removed from. A grant that says otherwise is older than that."""
        return [room.channel for room in self._rooms.values() if person in room.removed]

    def changes(self, person: str) -> int:
        """How often an owner changed what `person` may do."""
        return self._changes[person]

    def admit(self, room: Room, person: str) -> None:
        """Make `person` a member."""
        room.knocks.discard(person)
        room.removed.discard(person)
        if person != room.owner and person not in room.members:
            room.members.add(person)
            self._changes[person] += 1

    def remove(self, room: Room, person: str) -> None:
        """Let `person` be a member no more."""
        if person in room.members:
            room.members.discard(person)
            room.removed.add(person)
            self._changes[person] += 1
