"""Where the photographs lie that EfficientNet-Lite0 is calibrated on. Loads no torch.

Those that it is tested on are the 20 of ``foolbox``; none of them is here.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

BACKGROUNDS = Path("/usr/share/backgrounds")
"""Of the Debian package ``lomiri-wallpapers-16.04``, without its two abstract patterns."""
PUZZLES = Path("/usr/share/palapeli/collection")
"""Of the Debian package ``palapeli-data``."""

CALIBRATION: tuple[tuple[Path | str, tuple[str, ...]], ...] = (
    (
        BACKGROUNDS,
        (
            "aitzgorri_by_Aitzol_Berasategi.jpg",
            "Bridge_by_Sander_Klootwijk.jpg",
            "Dragonfly_by_Bolly.jpg",
            "free_by_Peter_Nerlich.jpg",
            "friends_by_Aitzol_Berasategi.jpg",
            "greentock_by_Peter_Nerlich.jpg",
            "life_by_Aitzol_Berasategi.jpg",
            "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "Picture_0B_by_freespace.jpg",
            "Picture_1A_by_freespace.jpg",
            "seeding_by_Clements_Engelhardt.jpg",
            "sunset_by_Aitzol_Berasategi.jpg",
            "Wine_by_Jakkub_Mede.jpg",
        ),
    ),
    (
        PUZZLES,
        (
            "castle-maintenon.jpg",
            "cincinnati-bridge.jpg",
            "citrus-fruits.jpg",
            "european-honey-bee.jpg",
            "panther-chameleon-female.jpg",
        ),
    ),
    (
        "skimage",
        (
            "data/astronaut.png",
            "data/chelsea.png",
            "data/coffee.png",
            "data/motorcycle_left.png",
            "data/rocket.jpg",
        ),
    ),
)
"""By folder, or by package that is installed and not imported."""

TEST_PACKAGE = "foolbox"
NAME = "crops of 23 photographs for calibration, of 20 labelled ImageNet photographs for the test"


def calibration_files() -> tuple[Path, ...]:
    """Raises ``FileNotFoundError``, which says what installs them."""
    found = [_folder(place) / name for place, names in CALIBRATION for name in names]
    missing = [file for file in found if not file.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: run `make bench-data` and `make bench-engine`")
    return tuple(found)


def test_files() -> tuple[tuple[Path, int], ...]:
    """Each with its ImageNet class, which is the last number of its name."""
    found = sorted(_folder(TEST_PACKAGE).glob("data/imagenet_*.jpg"))
    return tuple((file, int(file.stem.rpartition("_")[2])) for file in found)


def data_name() -> str:
    """What a row says of its data."""
    return NAME


def _folder(place: Path | str) -> Path:
    return place if isinstance(place, Path) else next(_locations(place))


def _locations(package: str) -> Iterator[Path]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"`{package}` is not installed: run `make bench-engine`")
    yield from map(Path, spec.submodule_search_locations)
