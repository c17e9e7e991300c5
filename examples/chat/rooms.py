"""The rooms, their members, and the changes that owners made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

PREFIX = "chat:"
OPERATIONS = ("publish", "subscribe", "presence")


@dataclass
class Room:
    """A room. With an owner it lets in only the owner and the members."""

    name: str
    title: str
    about: str
    owner: str | None = None
    members: set[str] = field(default_factory=set)
    knocks: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    @property
    def channel(self) -> str:
        """The Ably channel of the room."""
        return PREFIX + self.name

    def lets_in(self, person: str) -> bool:
        """Whether `person` may be in the room."""
        return self.owner is None or person == self.owner or person in self.members

    def seen_by(self, person: str) -> dict[str, object]:
        """The room for the page of `person`: members only for those let in, knocks only for the owner."""
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
    """All rooms, in the memory of this process."""

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
        """The room `name`; raises HTTPNotFound when there is none."""
        if name not in self._rooms:
            raise web.HTTPNotFound(text=f"there is no room {name[:50]!r}")
        return self._rooms[name]

    def owned(self, name: str, person: str) -> Room:
        """The room `name`, for its owner `person`; raises HTTPForbidden for another person."""
        room = self[name]
        if room.owner != person:
            raise web.HTTPForbidden(text=f"only the owner of the {room.title} may do that")
        return room

    def seen_by(self, person: str) -> list[dict[str, object]]:
        """All rooms for the page of `person`."""
        return [room.seen_by(person) for room in self._rooms.values()]

    def lets_in(self, name: str, person: str) -> bool:
        """Whether the room `name` exists and `person` may be in it."""
        return name in self._rooms and self._rooms[name].lets_in(person)

    def channels_of(self, person: str) -> list[str]:
        """The channels of all rooms that `person` may be in."""
        return [room.channel for room in self._rooms.values() if room.lets_in(person)]

    def withdrawn_from(self, person: str) -> list[str]:
        """The channels of the rooms that `person` was removed from."""
        return [room.channel for room in self._rooms.values() if person in room.removed]

    def changes(self, person: str) -> int:
        """The number of times that an owner admitted or removed `person`."""
        return self._changes[person]

    def admit(self, room: Room, person: str) -> None:
        """Make `person` a member."""
        room.knocks.discard(person)
        room.removed.discard(person)
        if person != room.owner and person not in room.members:
            room.members.add(person)
            self._changes[person] += 1

    def remove(self, room: Room, person: str) -> None:
        """End the membership of `person`."""
        if person in room.members:
            room.members.discard(person)
            room.removed.add(person)
            self._changes[person] += 1
