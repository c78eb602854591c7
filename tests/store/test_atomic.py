import errno
import json

import pytest

from qcompile.store.atomic import ARTIFACT_KIND, check_free, publish_files, write_file
from qcompile.store.disk import Disk

FILES = {
    "a.bin": b"x" * 100,
    "recipe/b.txt": b"hello",
    "manifest.json": b'{"kind":"qcompile-artifact"}',
}
OLD = {"manifest.json": json.dumps({"kind": ARTIFACT_KIND}).encode(), "old.bin": b"old"}


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def hidden(directory):
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


def numbers(problems):
    return [problem.code.number for problem in problems]


def steps(faulty_disk, action):
    disk = faulty_disk()
    action(disk)
    return disk.calls


def test_a_file_holds_old_or_new_bytes_wherever_the_power_is_cut(tmp_path, faulty_disk, power_cut):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    count = steps(faulty_disk, lambda disk: write_file(disk, path, b"new bytes"))
    seen = set()
    for torn in (False, True):
        for at in range(count):
            path.write_bytes(b"old")
            with pytest.raises(power_cut):
                write_file(faulty_disk(at, cut=True, torn=torn), path, b"new bytes")
            seen.add(path.read_bytes())
    assert seen == {b"old", b"new bytes"}


def test_a_leftover_temporary_file_does_not_stop_a_write(tmp_path):
    (tmp_path / ".tmp-f").write_bytes(b"torn")
    assert write_file(Disk(), tmp_path / "f", b"new") == []
    assert contents(tmp_path) == {"f": b"new"}


def test_every_failing_call_of_a_write_is_reported_and_cleaned(tmp_path, faulty_disk, disk_error):
    path = tmp_path / "f"
    count = steps(faulty_disk, lambda disk: write_file(disk, path, b"new bytes"))
    for at in range(count):
        path.write_bytes(b"old")
        problems = write_file(faulty_disk(at, error=disk_error), path, b"new bytes")
        assert numbers(problems) == ["QR905"]
        assert path.read_bytes() in (b"old", b"new bytes")
        assert hidden(tmp_path) == []


def test_a_full_disk_says_how_much_is_needed(tmp_path, faulty_disk):
    problems = write_file(faulty_disk(2, error=errno.ENOSPC), tmp_path / "f", b"x" * 1234)
    assert "1234 bytes are needed" in problems[0].notes[0]
    assert problems[0].subject == str(tmp_path / "f")


def test_a_link_in_the_place_of_the_temporary_file_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".tmp-f").symlink_to(victim)
    assert write_file(Disk(), tmp_path / "f", b"new") == []
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("there", [False, True], ids=["absent", "empty"])
def test_a_directory_appears_whole_or_not_at_all(tmp_path, faulty_disk, power_cut, there):
    count = steps(faulty_disk, lambda disk: publish_files(disk, tmp_path / "probe", FILES))
    whole = 0
    for torn in (False, True):
        for at in range(count):
            final = tmp_path / f"out-{torn}-{at}"
            if there:
                final.mkdir()
            with pytest.raises(power_cut):
                publish_files(faulty_disk(at, cut=True, torn=torn), final, FILES)
            found = contents(final) if final.exists() else {}
            assert found in ({}, FILES)
            whole += found == FILES
            assert publish_files(Disk(), final, FILES, replace=True) == []
            assert contents(final) == FILES
    assert 0 < whole < 2 * count
    assert hidden(tmp_path) == []


def test_every_failing_call_of_a_publication_is_reported_and_cleaned(
    tmp_path, faulty_disk, disk_error
):
    count = steps(faulty_disk, lambda disk: publish_files(disk, tmp_path / "probe", FILES))
    for at in range(count):
        final = tmp_path / f"out-{at}"
        problems = publish_files(faulty_disk(at, error=disk_error), final, FILES)
        found = contents(final) if final.exists() else {}
        assert found in ({}, FILES)
        assert numbers(problems) == ["QR905"]
        assert hidden(tmp_path) == []


def test_replacing_keeps_the_old_or_the_new_whole_at_every_cut(tmp_path, faulty_disk, power_cut):
    def prepared(name):
        final = tmp_path / name
        assert publish_files(Disk(), final, OLD) == []
        return final

    probe = prepared("probe")
    count = steps(faulty_disk, lambda disk: publish_files(disk, probe, FILES, replace=True))
    for at in range(count):
        final = prepared(f"out-{at}")
        with pytest.raises(power_cut):
            publish_files(faulty_disk(at, cut=True), final, FILES, replace=True)
        kept = [final, final.with_name(f".old-{final.name}")]
        assert any(place.exists() and contents(place) in (OLD, FILES) for place in kept)
        assert publish_files(Disk(), final, FILES, replace=True) == []
        assert contents(final) == FILES
    assert hidden(tmp_path) == []


def test_a_failing_replacement_puts_the_old_artifact_back(tmp_path, faulty_disk):
    final = tmp_path / "out"
    publish_files(Disk(), final, OLD)
    disk = faulty_disk()
    publish_files(disk, tmp_path / "probe", OLD)
    probe = faulty_disk()
    publish_files(probe, tmp_path / "probe", FILES, replace=True)
    second_rename = [i for i, name in enumerate(probe.names) if name == "rename"][1]
    problems = publish_files(
        faulty_disk(second_rename, error=errno.EIO), final, FILES, replace=True
    )
    assert numbers(problems) == ["QR905"]
    assert contents(final) == OLD
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("replace", [False, True])
def test_a_directory_of_somebody_else_is_refused_and_untouched(tmp_path, replace):
    final = tmp_path / "out"
    final.mkdir()
    (final / "manifest.json").write_text('{"name": "a web app"}')
    assert numbers(publish_files(Disk(), final, FILES, replace)) == ["QR901"]
    assert contents(final) == {"manifest.json": b'{"name": "a web app"}'}
    assert hidden(tmp_path) == []


def test_an_artifact_is_replaced_only_when_asked(tmp_path):
    final = tmp_path / "out"
    assert publish_files(Disk(), final, OLD) == []
    assert numbers(check_free(final)) == ["QR901"]
    assert numbers(publish_files(Disk(), final, FILES)) == ["QR901"]
    assert contents(final) == OLD
    assert publish_files(Disk(), final, FILES, replace=True) == []
    assert contents(final) == FILES


def test_a_file_and_a_link_are_not_outputs(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert numbers(check_free(tmp_path / "file")) == ["QR901"]
    assert numbers(check_free(tmp_path / "link")) == ["QR901"]
    assert check_free(tmp_path / "real") == []
    assert check_free(tmp_path / "absent") == []
