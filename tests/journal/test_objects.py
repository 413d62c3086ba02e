"""What is known of each object, through corrections, merges, splits, undo and redo."""

from __future__ import annotations

from itertools import count
from typing import Any

from napari_tinysam.journal.lines import Action
from napari_tinysam.journal.objects import ObjectRecord, ObjectRecords

_numbers = count(1)


def do(name: str, step: int = 0, **arguments: Any) -> Action:
    return Action(next(_numbers), 0.0, name, arguments, model="m h", step=step)


def wrote(label: int, origin: str = "clicks", **more: Any) -> dict[str, Any]:
    told = {"id": label, "origin": origin, "score": 0.9, "seconds": 2.0}
    return {**told, "prompts": {"mask": None}, **more}


def commit(step: int, *objects: dict[str, Any]) -> Action:
    return do("commit", step, objects=list(objects))


def test_an_object_remembers_how_it_came_to_be_and_what_it_cost() -> None:
    found = ObjectRecords(
        [
            commit(1, wrote(1), wrote(2, "box")),
            commit(2, wrote(1, score=0.7, seconds=1.5, prompts={"mask": [0]})),
        ]
    )
    assert found.get(1) == ObjectRecord("clicks", "m h", 0.7, 3.5, 1)
    assert found.get(2) == ObjectRecord("box", "m h", 0.9, 2.0, 0)


def test_objects_of_nobody_were_there_before() -> None:
    found = ObjectRecords([commit(1, wrote(8, prompts={"mask": [0]}))])
    assert found.of([7])[7] == ObjectRecord("imported")
    edited = found.get(8)
    assert edited is not None
    assert (edited.origin, edited.corrected) == ("imported", 1)


def test_times_are_hundredths_of_a_second_in_memory_as_in_files() -> None:
    found = ObjectRecords([commit(1, wrote(1, seconds=0.1), wrote(2, seconds=0.03))])
    found.add(commit(2, wrote(1, seconds=0.2, prompts={"mask": [0]})))
    found.add(do("merge", 3, **{"into": 1, "from": 2, "seconds": 0.01}))
    merged = found.get(1)
    assert merged is not None
    assert merged.seconds == 0.34
    assert merged.to_json()["seconds"] == merged.seconds


def test_a_merge_adds_the_work_and_a_split_keeps_the_origin() -> None:
    found = ObjectRecords([commit(1, wrote(1), wrote(2, "box"))])
    found.add(do("merge", 2, **{"into": 1, "from": 2}))
    assert list(found) == [1]
    merged = found.get(1)
    assert merged is not None
    assert (merged.seconds, merged.corrected) == (4.0, 1)
    found.add(do("split", 3, into=[1, 5]))
    part = found.get(5)
    assert part is not None
    assert (part.origin, part.seconds, part.corrected) == ("clicks", 0.0, 2)


def test_undo_and_redo_turn_the_records_too() -> None:
    found = ObjectRecords([commit(1, wrote(1)), commit(2, wrote(2))])
    before = found.of([1, 2])
    found.add(do("merge", 3, **{"into": 1, "from": 2}))
    after = found.get(1)
    found.add(do("undo", 3))
    assert found.of([1, 2]) == before
    found.add(do("redo", 3))
    assert found.get(1) == after
    assert found.get(2) is None
    for step in (3, 2, 1):
        found.add(do("undo", step))
    assert len(found) == 0


def test_deleting_on_one_plane_of_several_is_a_correction() -> None:
    found = ObjectRecords([commit(1, wrote(1), wrote(2))])
    found.add(do("delete", 2, id=1, part=True))
    found.add(do("delete", 3, id=2, part=False))
    assert list(found) == [1]
    left = found.get(1)
    assert left is not None
    assert left.corrected == 1


def test_following_an_object_is_no_correction_and_runs_name_all_they_wrote() -> None:
    found = ObjectRecords([commit(1, wrote(1))])
    found.add(do("follow", 2, objects=[{"id": 1, "origin": "followed"}]))
    found.add(do("fill", first=4, count=2, origin="filled"))
    followed = found.get(1)
    assert followed is not None
    assert (followed.origin, followed.corrected) == ("clicks", 0)
    assert [found.of([n])[n].origin for n in (4, 5, 6)] == [
        "filled",
        "filled",
        "imported",
    ]
