"""What a run is expected to take of one machine: an estimate, beside the hashed plan."""

from pydantic import Field

from qcompile.policy.document import Frozen


class UnitForecast(Frozen):
    unit: str
    seconds: float | None
    """``None`` where the machine's speed is not known."""
    peak_bytes: int
    """Of tensors that are alive at once while the unit is worked on, with the holes they leave."""
    streams_bytes: int = 0
    """Of values of both streams, when the most of them are held as a site is worked on."""
    statistics_bytes: int = 0
    """Of Gram matrices, and of rows that the solvers of a layer work on, at their most."""
    learning_bytes: int = 0
    """Of optimizer state and recorded values of what is learned as one, at their most."""
    state_bytes: int
    """Of what is saved after the unit, to go on from."""


class RunForecast(Frozen):
    samples: int
    batch: int
    units: tuple[UnitForecast, ...]
    seconds: float | None
    peak_bytes: int
    """Of the whole process: the program, the model and the data included."""
    disk_bytes: int
    """At most, at one time: the artifact, and what an unfinished run keeps."""
    kept_bytes: int = 0
    """The second of these alone."""
    machine: dict[str, str] = Field(default_factory=dict)
    """Where the speeds were measured; empty where none were."""

    def behind(self, first: "RunForecast", graph_bytes: int) -> "RunForecast":
        """Of both runs, where this one follows ``first``, of which nothing is published.

        Its state is kept on disk, and its graph, of ``graph_bytes``, in memory.
        """
        each = (first.seconds, self.seconds)
        seconds = [one for one in each if one is not None]
        return self.model_copy(
            update={
                "seconds": sum(seconds) if len(seconds) == len(each) else None,
                "peak_bytes": max(first.peak_bytes, self.peak_bytes + graph_bytes),
                "disk_bytes": first.kept_bytes + self.disk_bytes,
                "kept_bytes": first.kept_bytes + self.kept_bytes,
            }
        )
