"""The base of everything that is read from or written to disk."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Refuses what it does not know; the plain frozen values inside it are held to the same."""

    # validators are built on first use: most commands need few of them
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
