import json
import multiprocessing
import os
import shutil
from contextlib import suppress

import pytest

from qcompile.store.canonical import sha256_hex
from qcompile.store.disk import Disk
from qcompile.store.run_state import RunState

DAMAGES = ["empty", "half", "text", "flip", "missing", "list", "huge", "directory"]
UNITS = ("stem", "layer1", "head")
IDENTITY = {"plan": "abc", "torch": "2.13", "threads": "2"}


class QuickDisk(Disk):
    """The real disk without waiting for it: these tests cut no power."""

    def sync(self, descriptor):
        pass

    def sync_directory(self, path):
        pass


def opened(directory, disk=None):
    return RunState.open(directory, IDENTITY, disk or QuickDisk())


def work(state, units=UNITS):
    """Do the units that are left, each from the chain of the one before; return what it made."""
    for unit in units[len(state.completed) :]:
        chain = b"input"
        if state.completed:
            chain = state.load_chain(state.completed[-1])
            assert isinstance(chain, bytes)
        after = sha256_hex(chain + unit.encode()).encode() * 10
        problems = state.commit(unit, b"result of " + unit.encode() + chain[:8], after)
        if problems:
            return problems
    return b"|".join(state.load(unit) for unit in units)


def run(directory, disk=None):
    state = opened(directory, disk)
    if isinstance(state, list):
        return state
    with state:
        return work(state)


def numbers(problems):
    assert isinstance(problems, list), problems
    return [problem.code.number for problem in problems]


def leftovers(directory):
    return [path.name for path in directory.rglob(".tmp-*")]


@pytest.fixture
def expected(tmp_path):
    return run(tmp_path / "reference")


@pytest.fixture
def steps(tmp_path, faulty_disk):
    disk = faulty_disk()
    run(tmp_path / "counted", disk)
    return disk.calls


@pytest.mark.parametrize("torn", [False, True])
def test_a_run_cut_at_any_step_resumes_to_the_same_bytes(
    tmp_path, expected, steps, faulty_disk, power_cut, torn
):
    assert steps > 60
    for at in range(steps):
        directory = tmp_path / f"run-{at}"
        with pytest.raises(power_cut):
            run(directory, faulty_disk(at, cut=True, torn=torn))
        assert run(directory) == expected
        assert leftovers(directory) == []


def test_a_run_cut_twice_resumes_to_the_same_bytes(
    tmp_path, expected, steps, faulty_disk, power_cut
):
    for at in range(0, steps, 7):
        for again in range(0, 40, 3):
            directory = tmp_path / f"run-{at}-{again}"
            with pytest.raises(power_cut):
                run(directory, faulty_disk(at, cut=True))
            with suppress(power_cut):
                run(directory, faulty_disk(again, cut=True))
            assert run(directory) == expected


def test_a_lost_rename_costs_one_unit_and_no_bytes(tmp_path, expected, faulty_disk):
    class ForgetfulDisk(faulty_disk):
        def rename(self, source, target):
            self._step("rename")
            if self.calls <= self.forget_from:
                Disk.rename(self, source, target)
            else:
                raise MemoryError

    counted = faulty_disk()
    run(tmp_path / "probe", counted)
    for at in [i for i, name in enumerate(counted.names) if name == "rename"]:
        directory = tmp_path / f"run-{at}"
        disk = ForgetfulDisk()
        disk.forget_from = at
        with pytest.raises(MemoryError):
            run(directory, disk)
        assert run(directory) == expected


def test_every_failing_step_is_reported_and_the_run_goes_on_later(
    tmp_path, expected, steps, faulty_disk, disk_error
):
    for lasting in (False, True):
        for at in range(steps):
            directory = tmp_path / f"run-{lasting}-{at}"
            result = run(directory, faulty_disk(at, error=disk_error, lasting=lasting))
            if result != expected:  # only the removal of an old chain may fail unnoticed
                assert numbers(result) == ["QR905"]
            assert run(directory) == expected
            assert leftovers(directory) == []


def test_completed_units_keep_their_order_and_are_not_committed_twice(tmp_path):
    with opened(tmp_path / "run") as state:
        state.commit("b", b"1", b"")
        state.commit("a", b"2", b"")
        with pytest.raises(ValueError, match="already"):
            state.commit("b", b"3", b"")
    with opened(tmp_path / "run") as state:
        assert state.completed == ("b", "a")
        assert state.load("b") == b"1"


def test_only_the_chains_of_the_last_two_generations_stay(tmp_path):
    directory = tmp_path / "run"
    with opened(directory) as state:
        for number in range(5):
            state.commit(f"u{number}", b"r%d" % number, b"c%d" % number)
            chains = sorted(path.name[:3] for path in (directory / "units").glob("*.chain"))
            assert chains == [f"{k:03d}" for k in range(max(0, number - 1), number + 1)]
        assert [state.load(f"u{k}") for k in range(5)] == [b"r%d" % k for k in range(5)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_falls_back_to_the_one_before(tmp_path, expected, damage):
    directory = tmp_path / "run"
    run(directory)
    damaged(directory / "manifest.json", damage)
    with opened(directory) as state:
        assert state.completed == UNITS[:2]
        if damage != "directory":
            assert work(state) == expected


@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_manifests_are_an_error_and_never_a_fresh_start(tmp_path, damage):
    directory = tmp_path / "run"
    run(directory)
    damaged(directory / "manifest.json", damage)
    damaged(directory / "manifest.prev.json", damage)
    before = times(directory)
    assert numbers(opened(directory)) == ["QR907"]
    assert times(directory) == before


def times(directory):
    """When each file was last changed, those of the lock aside."""
    paths = [path for path in directory.rglob("*") if path.name not in ("holder.json", "lock")]
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


def test_a_directory_that_vanishes_during_the_run_is_reported(tmp_path):
    with opened(tmp_path / "run") as state:
        assert state.commit("stem", b"1", b"") == []
        shutil.rmtree(tmp_path / "run")
        assert numbers(state.commit("layer1", b"2", b"")) == ["QR905"]
        assert state.completed == ("stem",)


def test_the_real_disk_gives_the_same_bytes(tmp_path, expected):
    assert run(tmp_path / "run", Disk()) == expected


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    directory = tmp_path / "run"
    run(directory)
    (directory / "manifest.prev.json").unlink()
    whole = (directory / "manifest.json").read_bytes()
    for position in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        (directory / "manifest.json").write_bytes(flipped)
        assert numbers(opened(directory)) == ["QR907"]


def test_a_flipped_bit_in_a_payload_names_file_and_unit(tmp_path):
    directory = tmp_path / "run"
    run(directory)
    for unit, path in zip(UNITS, sorted((directory / "units").glob("*.safetensors")), strict=True):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 4]))
        with opened(directory) as state:
            problems = state.load(unit)
        assert numbers(problems) == ["QR907"]
        assert path.name in problems[0].message
        assert unit in problems[0].message
        path.write_bytes(whole)


def test_a_payload_of_another_run_is_refused(tmp_path):
    run(tmp_path / "one")
    with opened(tmp_path / "two") as other:
        other.commit("stem", b"quite another result", b"")
    mine = next((tmp_path / "one" / "units").glob("000-*.safetensors"))
    theirs = next((tmp_path / "two" / "units").glob("000-*.safetensors"))
    shutil.copyfile(theirs, mine)
    with opened(tmp_path / "one") as state:
        assert numbers(state.load("stem")) == ["QR907"]
        mine.unlink()
        assert numbers(state.load("stem")) == ["QR907"]


def test_another_identity_is_refused_and_named(tmp_path):
    directory = tmp_path / "run"
    run(directory)
    problems = RunState.open(directory, {"plan": "abc", "torch": "2.11", "gpu": "x"}, Disk())
    assert numbers(problems) == ["QR907"] * 3
    assert [name for name in ("gpu", "threads", "torch") if f"`{name}`" in str(problems)] == [
        "gpu",
        "threads",
        "torch",
    ]
    assert "then `2.13`, now `2.11`" in problems[2].notes[0]
    with opened(directory) as state:
        assert state.completed == UNITS


def test_a_second_open_is_refused_with_the_holder(tmp_path):
    with opened(tmp_path / "run"):
        problems = opened(tmp_path / "run")
        assert numbers(problems) == ["QR906"]
        assert f"process {os.getpid()} on" in problems[0].notes[0]
    with opened(tmp_path / "run") as state:
        assert state.completed == ()


def die_with_lock(directory):
    opened(directory)
    os.kill(os.getpid(), 9)


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=die_with_lock, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == -9
    assert json.loads((tmp_path / "holder.json").read_bytes())["pid"] == child.pid
    with opened(tmp_path) as state:
        assert state.completed == ()


def test_a_finished_run_leaves_nothing(tmp_path, faulty_disk, power_cut):
    with opened(tmp_path / "run") as state:
        work(state)
        assert state.finish() == []
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "run")
    disk = faulty_disk()
    with opened(tmp_path / "run", disk) as state:
        before = disk.calls
        state.finish()
    for at in range(before, disk.calls):
        run(tmp_path / "run")
        with pytest.raises(power_cut), opened(tmp_path / "run", faulty_disk(at, cut=True)) as state:
            state.finish()
        with opened(tmp_path / "run") as state:
            assert state.completed in ((), UNITS)
            state.finish()


def test_a_place_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert numbers(opened(tmp_path / "file" / "run")) == ["QR905"]


def damaged(path, damage):
    whole = path.read_bytes()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(whole[: len(whole) // 2])
        case "text":
            path.write_bytes(b"not json")
        case "flip":
            path.write_bytes(whole.replace(b"2.13", b"2.12"))
        case "missing":
            path.unlink()
        case "list":
            path.write_bytes(b"[]")
        case "huge":
            os.truncate(path, 2 << 30)
        case "directory":
            path.unlink()
            path.mkdir()
