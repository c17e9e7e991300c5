"""What the emulator answers in place of what was asked, over HTTP and in protocol messages alike."""

from __future__ import annotations

from ..errors import HELP, AuthError


class Failure(Exception):
    """A refusal with Ably's code, the HTTP status that goes with it, and what was wrong."""

    def __init__(self, code: int, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message

    @classmethod
    def of(cls, error: AuthError) -> Failure:
        """The same refusal, told by the values the auth server shares with the emulator."""
        return cls(error.code, error.status, error.message)

    @property
    def info(self) -> dict[str, object]:
        """ErrorInfo as it stands in a protocol message (TI1)."""
        return {
            "message": self.message,
            "code": self.code,
            "statusCode": self.status,
            "href": f"{HELP}{self.code}",
        }

    def __repr__(self) -> str:
        return f"Failure({self.code}, {self.status}, {self.message!r})"
