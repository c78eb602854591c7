"""What a run is expected to take of one machine: an estimate, beside the hashed plan."""

from pydantic import Field

from qcompile.policy.document import Frozen


class UnitForecast(Frozen):
    unit: str
    seconds: float | None
    """``None`` where the machine's speed is not known."""
    peak_bytes: int
    """Of tensors that are alive at once while the unit is worked on."""
    statistics_bytes: int = 0
    """Of these, what the solvers of a layer add: Gram matrices, and rows that they work on."""
    learning_bytes: int = 0
    """Of these, what learning adds: optimizer state, recorded values, cached inputs."""
    state_bytes: int
    """Of what is saved after the unit, to go on from."""

    @property
    def streams_bytes(self) -> int:
        """The rest of ``peak_bytes``: values of both streams, and what rounding needs beside."""
        return self.peak_bytes - self.statistics_bytes - self.learning_bytes


class RunForecast(Frozen):
    samples: int
    batch: int
    units: tuple[UnitForecast, ...]
    seconds: float | None
    peak_bytes: int
    """Of the whole process: the program, the model and the data included."""
    disk_bytes: int
    """At most, at one time: the artifact, and what an unfinished run keeps."""
    machine: dict[str, str] = Field(default_factory=dict)
    """Where the speeds were measured; empty where none were."""
