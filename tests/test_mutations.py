"""Damaged files and texts are refused in a sentence, and no difference is taken for the whole."""

import zipfile

import numpy as np
import pytest
from damaged import Reader, faults_of, readers

import relaysim as rs

# `python benchmarks/mutated_inputs.py 20000` tries as many as one likes.
COUNTS = {
    "store": 60,
    "store to go on with": 40,
    "history": 80,
    "history of version 0.1": 60,
    "svmlight": 60,
    "toml": 60,
    "topology": 35,
    "algorithm": 35,
    "learning_rate": 35,
    "faults": 35,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Reader]:
    return readers(tmp_path_factory.mktemp("whole"))


def test_every_reader_is_tried(made):
    assert made.keys() == COUNTS.keys()
    assert sum(COUNTS.values()) == 500


@pytest.mark.parametrize("name", COUNTS)
def test_damaged_inputs_are_refused_in_a_sentence(made, name, tmp_path):
    path = tmp_path / "damaged.npz"
    assert not faults_of(made[name], COUNTS[name], seed=0, path=path)


@pytest.mark.parametrize("name", COUNTS)
def test_whole_inputs_are_read(made, name, tmp_path):
    path = tmp_path / "whole.npz"
    path.write_bytes(made[name].whole)
    assert made[name].is_right(made[name].read(path))


def test_sizes_that_fit_nothing_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    path = readers(tmp_path)["history"]
    whole = tmp_path / "whole.npz"
    whole.write_bytes(path.whole)
    with np.load(whole) as file:
        arrays = {name: file[name] for name in file.files}
    monkeypatch.setattr(np.lib.format, "read_array", _only_the_header)
    bomb = tmp_path / "bomb.npz"
    for name, shape, message in (
        ("x", (10**4, 10**3, 2), "column/|iterates"),
        ("column/distance", (10**7,), "column/distance is of shape"),
        ("unknown", (10**7,), "nothing in it tells what 'unknown' is"),
    ):
        np.savez_compressed(bomb, **arrays | {name: np.zeros(shape)})
        assert bomb.stat().st_size < 10**6
        with pytest.raises(ValueError, match=rf"bomb\.npz' is not .* or damaged: .*({message})"):
            rs.History.load(bomb)
    monkeypatch.setattr("relaysim.support.checks.memory_bytes", lambda: 1_000)
    with pytest.raises(ValueError, match=r"kB of memory and this machine has 1 kB"):
        rs.History.load(whole)


READ_ARRAY = np.lib.format.read_array


def _only_the_header(member, **options):
    array = READ_ARRAY(member, **options)
    assert array.size < 10**5, "unpacked"
    return array


def test_what_is_said_of_an_array_must_be_its_size(tmp_path):
    whole = readers(tmp_path)["history"].whole
    (tmp_path / "whole.npz").write_bytes(whole)
    with zipfile.ZipFile(tmp_path / "whole.npz") as file:
        members = {each.filename: file.read(each) for each in file.infolist()}
    absurd = members["x.npy"].replace(b"(4, 2, 2)", b"(4,2,999)")
    assert absurd != members["x.npy"]
    with zipfile.ZipFile(tmp_path / "absurd.npz", "w") as file:
        for name, data in (members | {"x.npy": absurd}).items():
            file.writestr(name, data)
    with pytest.raises(ValueError, match=r"x is said to be of float64 and shape \(4, 2, 999\)"):
        rs.History.load(tmp_path / "absurd.npz")
    changed = bytearray(members["x.npy"])
    changed[-1] ^= 1
    with zipfile.ZipFile(tmp_path / "changed.npz", "w") as file:
        for name, data in (members | {"x.npy": bytes(changed)}).items():
            file.writestr(name, data)
    with pytest.raises(ValueError, match="what is in it is not what was written"):
        rs.History.load(tmp_path / "changed.npz")
