"""TwoStreamVAN's arrays: every layout's names, splits, spans, sizes; and what is refused, by name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.reference_arrays import run, save, spans, video

from vidgen.data.contact_sheet import describe
from vidgen.data.npy_video import NpyVideo, NpyVideoError
from vidgen.data.prepare import PrepareSettings, Progress, prepare
from vidgen.data.reference_layouts import REFERENCE_LAYOUTS, NameFormatError, Take, common_size
from vidgen.data.splits import split_clips
from vidgen.data.store import ClipStore
from vidgen.data.windows import MUG_CROP, NO_CROP, SYNACTION_CROP, WEIZMANN_CROP, labels_of, resize_bilinear, step_of
from vidgen.errors import DataError, SettingsError, VidgenError


def test_weizmann_is_split_in_time_and_stores_each_frame_once(weizmann: Path) -> None:
    report, store = run(weizmann, "weizmann")
    assert spans(store) == [
        ("daria_bend", "train", 0, 38), ("daria_bend", "test", 37, 20),
        ("eli_run", "train", 0, 28), ("eli_run", "test", 28, 14),
        ("shahar_walk", "train", 0, 28), ("shahar_walk", "test", 22, 20),
    ]  # fmt: skip
    assert store.info.frames == 57 + 42 + 42 and report.sources == 3
    assert store.info.crop == WEIZMANN_CROP and (store.info.height, store.info.width) == (12, 14)
    for index, clip in enumerate(store.clips):
        original = video((57, 42, 42)[index // 2], number=index // 2)
        first = int(clip.attributes["first_frame"])
        assert np.array_equal(store.frames(index), original[first : first + clip.length])
    assert [clip.attributes["step"] for clip in store.clips] == [2, 2, 1, 1, 2, 2]
    assert [step_of(clip, 2, class_steps=True) for clip in store.clips[1:3]] == [2, 1]
    assert {step_of(clip, 2, class_steps=False) for clip in store.clips} == {2}


def test_classes_and_actors_have_the_documented_numbers(weizmann: Path) -> None:
    actions, actors, names, actor_names = labels_of(run(weizmann, "weizmann")[1])
    assert names == tuple("bend jack pjump wave1 wave2 jump run side skip walk".split())
    assert actor_names == tuple("daria denis eli ido ira lena lyova moshe shahar".split())
    assert actions.tolist() == [0, 0, 6, 6, 9, 9] and actors.tolist() == [0, 0, 2, 2, 8, 8]


def test_the_recorded_split_is_the_one_that_training_uses(weizmann: Path) -> None:
    report, store = run(weizmann, "weizmann")
    assert split_clips(store, 0.1) == ([0, 2, 4], [1, 3, 5])
    assert {note.name for note in report.notes} == set(store.info.labels) - {"bend", "run", "walk"}
    summary = describe(store)
    assert summary["splits"] == {"test": 3, "train": 3} and summary["crop"] == WEIZMANN_CROP.to_dict()
    assert summary["actors"] == {"daria": 2, "eli": 2, "shahar": 2}


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_split_may_be_asked_for(weizmann: Path, split: str) -> None:
    both = spans(run(weizmann, "weizmann")[1])
    assert spans(run(weizmann, "weizmann", split=split)[1]) == [span for span in both if span[1] == split]


def test_mini_clips_share_their_frames(weizmann: Path) -> None:
    _, store = run(weizmann, "weizmann", miniclip=True)
    assert len(store) == 3 * 21 and store.info.frames == 57 + 42 + 42
    mine = [span for span in spans(store) if span[:2] == ("daria_bend", "train")]
    assert [first for _, _, first, _ in mine] == list(range(20)) and {length for *_, length in mine} == {19}
    assert {length for name, split, _, length in spans(store) if (name, split) == ("eli_run", "train")} == {10}


def test_short_videos_are_named_and_their_usable_parts_kept(weizmann: Path) -> None:
    save(weizmann, "ira_jack", video(25), time_last=True)
    save(weizmann, "ira_bend", video(19), time_last=True)
    report, store = run(weizmann, "weizmann")
    assert [span for span in spans(store) if span[0].startswith("ira")] == [("ira_jack", "test", 5, 20)]
    assert [s.name for s in report.skipped] == ["ira_bend.npy"]
    assert "19 frames" in report.skipped[0].reason and "train on and test" in report.skipped[0].reason
    assert any(note.name == "ira_jack.npy" and "train on" in note.text for note in report.notes)
    with pytest.raises(DataError, match=r"ira_bend\.npy"):
        run(weizmann, "weizmann", strict=True)


def test_steps_and_lengths_are_options(weizmann: Path) -> None:
    _, store = run(weizmann, "weizmann", every_nth=1, video_length=16)
    assert [span for span in spans(store) if span[0] == "shahar_walk"] == [
        ("shahar_walk", "train", 0, 28), ("shahar_walk", "test", 25, 17),
    ]  # fmt: skip


def _mug(source: Path, actors: tuple[str, ...] = ("002", "010")) -> dict[str, np.ndarray]:
    saved = {}
    for actor in actors:
        for action in ("sadness", "anger"):
            for part in range(4):
                name = f"{actor}_{action}_000_{part:02d}"
                saved[name] = save(source, name, video(12 + part, 20, 20, number=len(saved)))
    return saved


def test_mug_is_split_by_sub_sequence(tmp_path: Path) -> None:
    saved = _mug(tmp_path / "mug")
    _, store = run(tmp_path / "mug", "mug")
    assert store.info.labels == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    assert store.info.actors == ("002", "010") and store.info.crop == MUG_CROP
    assert len(store) == 16
    for index, clip in enumerate(store.clips):
        part = clip.attributes["subsequence"]
        assert clip.attributes["split"] == ("test" if part == 3 else "train")
        assert np.array_equal(store.frames(index), saved[str(clip.attributes["name"])])
        assert clip.attributes["seq"] == "000"


def test_mug2_is_split_by_actor_in_the_order_of_numbers(tmp_path: Path) -> None:
    _mug(tmp_path / "mug", ("2", "10", "1", "33"))
    _, store = run(tmp_path / "mug", "mug2")
    assert store.info.labels == ("anger", "disgust", "surprise", "sadness", "happiness", "fear")
    assert store.info.actors == ("1", "2", "10", "33")
    by_split = {split: {c.attributes["actor"] for c in store.clips if c.attributes["split"] == split}
                for split in ("train", "test")}  # fmt: skip
    assert by_split == {"train": {"1", "2"}, "test": {"10", "33"}}
    assert len(store) == 4 * 2 * 4


def test_files_that_just_miss_the_length_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "mug", "001_fear_000_0", video(10))
    save(tmp_path / "mug", "001_fear_000_1", video(11))
    report, store = run(tmp_path / "mug", "mug")
    assert spans(store) == [("001_fear_000_1", "train", 0, 11)]
    assert [skipped.name for skipped in report.skipped] == ["001_fear_000_0.npy"]


def test_synaction_is_split_by_its_rule_and_filters_by_class_steps(tmp_path: Path) -> None:
    # ((actor * 20 + action) * 2 + seq) mod 15 == view: douglas bow 0 -> 0, liam hit 1 -> (45 * 2 + 1) % 15 = 1.
    for name, length in (
        ("douglas_bow_0_0", 38), ("douglas_bow_0_1", 38), ("liam_hit_1_1", 56), ("liam_hit_1_2", 55),
        ("swat_wave_0_14", 37), ("swat_cheer_1_5", 20),
    ):  # fmt: skip
        save(tmp_path / "syn", name, video(length, 71, 71))
    report, store = run(tmp_path / "syn", "synaction")
    assert [span[:2] for span in spans(store)] == [
        ("douglas_bow_0_0", "test"), ("douglas_bow_0_1", "train"), ("liam_hit_1_1", "test"),
        ("swat_cheer_1_5", "train"),
    ]  # fmt: skip
    assert {skipped.name for skipped in report.skipped} == {"liam_hit_1_2.npy", "swat_wave_0_14.npy"}
    assert [clip.attributes["step"] for clip in store.clips] == [4, 4, 6, 2]
    assert store.info.crop == SYNACTION_CROP
    assert store.info.crop.box(71, 71, test=True) == (4, 4, 64, 64)


def test_the_square_of_synaction_follows_the_size(tmp_path: Path) -> None:
    save(tmp_path / "syn", "swat_cheer_1_5", video(20, 40, 40))
    assert run(tmp_path / "syn", "synaction", size=32)[1].info.crop.size(40, 40) == (32, 32)
    with pytest.raises(DataError, match="40x40"):
        run(tmp_path / "syn", "synaction")


@pytest.mark.parametrize("name", [*"abcdefgh", "daria_bend", "001_anger_000_0"])
@pytest.mark.parametrize("layout", list(REFERENCE_LAYOUTS))
def test_a_name_is_of_one_form(layout: str, name: str) -> None:
    fitting = {"daria_bend": ["weizmann"], "001_anger_000_0": ["mug", "mug2"]}.get(name, [])
    if layout in fitting:
        assert REFERENCE_LAYOUTS[layout].parse(name).name == name
    else:
        with pytest.raises(NameFormatError):
            REFERENCE_LAYOUTS[layout].parse(name)


@pytest.mark.parametrize(
    ("layout", "name", "said"),
    [
        ("weizmann", "daria_fly", "'fly'"), ("weizmann", "nobody_bend", "'nobody'"),
        ("weizmann", "daria_bend_2", "ACTOR_ACTION.npy"), ("weizmann", "_bend", "ACTOR_ACTION.npy"),
        ("mug", "001_anger_000_4", "0 to 3"), ("mug", "001_anger_000_x", "subsequence"),
        ("mug2", "amy_anger_000_1", "actor"), ("synaction", "swat_bow_x_1", "seq"),
        ("synaction", "swat_bow_1_-1", "view"), ("synaction", "swat_bow_1_\u0664", "view"),
    ],
)  # fmt: skip
def test_a_wrong_name_says_what_is_wrong(layout: str, name: str, said: str) -> None:
    with pytest.raises(NameFormatError, match=said):
        REFERENCE_LAYOUTS[layout].parse(name)


class _Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self.mark), "w")

    def __init__(self, mark: Path) -> None:
        self.mark = mark


def _hostile(folder: Path, mark: Path) -> dict[str, str]:
    """Files named as weizmann has them -> what their reason has to say."""
    folder.mkdir(exist_ok=True)
    good = np.moveaxis(video(42), 0, -1)
    whole = io.BytesIO()
    np.save(whole, good)
    raw = whole.getvalue()
    np.save(folder / "daria_jack.npy", np.array([_Trap(mark)], dtype=object), allow_pickle=True)
    with (folder / "daria_jump.npy").open("wb") as stream:
        np.savez(stream, good)
    files = {
        "daria_bend": raw[: len(raw) // 2], "daria_run": pickle.dumps(_Trap(mark)), "daria_side": b"",
        "daria_skip": raw[:8], "daria_walk": b"\x93NUMPY\x01\x00\xff\xff{'descr': [[[[",
        "daria_wave1": raw.replace(b"'descr'", b"'DESCR'"),
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.npy").write_bytes(content)
    np.save(folder / "eli_bend.npy", good.astype(np.float32))
    np.save(folder / "eli_jack.npy", video(42))
    np.save(folder / "eli_jump.npy", good[..., 0])
    np.save(folder / "eli_run.npy", np.uint8(7))
    np.save(folder / "eli_side.npy", np.zeros((12, 14, 3, 0), np.uint8))
    np.save(folder / "eli_skip.npy", np.zeros((12, 14, 4, 42), np.uint8))
    (folder / "eli_walk.npy").mkdir()
    return {
        "daria_bend": "cut short", "daria_jack": "pickled", "daria_jump": "npy file", "daria_run": "npy file",
        "daria_side": "npy file", "daria_skip": "cut short", "daria_walk": "cut short", "daria_wave1": "damaged",
        "eli_bend": "float32", "eli_jack": "--layout", "eli_jump": "expected height", "eli_run": "single number",
        "eli_side": "", "eli_skip": "no RGB video",
    }  # fmt: skip


def test_files_that_are_no_video_are_named_and_never_unpickled(weizmann: Path, tmp_path: Path) -> None:
    before = run(weizmann, "weizmann")[1].info.content_hash
    mark = tmp_path / "unpickled"
    for name in ("daria_bend", "eli_run"):
        (weizmann / f"{name}.npy").rename(weizmann / f"{name.replace('daria', 'ira').replace('eli', 'ido')}.npy")
    expected = _hostile(weizmann, mark)
    (weizmann / "notes.txt").write_text("read me")
    (weizmann / "cache_Train_20.db").write_bytes(pickle.dumps(_Trap(mark)))
    report, store = run(weizmann, "weizmann")
    reasons = {skipped.name.removesuffix(".npy"): skipped.reason for skipped in report.skipped}
    assert reasons.keys() == expected.keys()
    for name, words in expected.items():
        assert words in reasons[name], (name, reasons[name])
    assert not mark.exists() and report.ignored == ("cache_Train_20.db", "notes.txt")
    assert len(store) == 6 and store.info.content_hash != before
    for name in expected:
        with pytest.raises(DataError, match=name):
            run(weizmann / f"{name}.npy", "weizmann")


def test_numpy_is_never_allowed_to_unpickle(weizmann: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    load = np.load

    def watch(*arguments: Any, **options: Any) -> Any:
        asked.append(options.get("allow_pickle"))
        return load(*arguments, **options)

    monkeypatch.setattr(np, "load", watch)
    prepare(PrepareSettings(weizmann, weizmann.parent / "out", "weizmann"))
    assert set(asked) == {False}


def test_size_limits_hold(weizmann: Path) -> None:
    for limit in ({"max_frames": 50}, {"max_pixels": 100}):
        if limit.get("max_pixels"):
            with pytest.raises(DataError, match="max-pixels"):
                run(weizmann, "weizmann", **limit)
        else:
            report, _ = run(weizmann, "weizmann", **limit)
            assert [skipped.name for skipped in report.skipped] == ["daria_bend.npy"]


@pytest.mark.parametrize("content", [{}, {"a.txt": b""}, {"walk.npy": b""}])
def test_a_folder_with_nothing_to_read_is_refused(tmp_path: Path, content: dict[str, bytes]) -> None:
    source = tmp_path / "s"
    source.mkdir()
    for name, data in content.items():
        (source / name).write_bytes(data)
    with pytest.raises(DataError, match="mug"):
        run(source, "mug") if "walk.npy" not in content else run(source, "mug", name="mug")
    assert not (tmp_path / "s-store").exists()
    with pytest.raises(VidgenError):
        run(tmp_path / "nowhere", "mug")


def test_arrays_without_a_layout_are_pointed_to_one(weizmann: Path) -> None:
    with pytest.raises(DataError, match="synaction"):
        prepare(PrepareSettings(weizmann, weizmann.parent / "x"))


def test_a_second_file_of_a_name_is_skipped(weizmann: Path) -> None:
    save(weizmann / "copies", "eli_run", video(42), time_last=True)
    report, store = run(weizmann, "weizmann")
    assert [s.name for s in report.skipped] == ["eli_run.npy"] and len(store) == 6
    assert {clip.source for clip in store.clips} >= {"copies/eli_run.npy"}


def test_frames_of_other_sizes_are_resized_to_the_usual_one(weizmann: Path) -> None:
    larger = save(weizmann, "ira_jack", video(42, 20, 16), time_last=True)
    report, store = run(weizmann, "weizmann")
    assert (store.info.height, store.info.width) == (12, 14)
    (index,) = [i for i, (name, split, *_) in enumerate(spans(store)) if (name, split) == ("ira_jack", "train")]
    assert np.array_equal(store.frames(index), resize_bilinear(larger[:28], 12, 14))
    assert any(note.name == "ira_jack.npy" and "16x20" in note.text for note in report.notes)
    assert common_size([(1, 2), (3, 4)]) == (3, 4)


def test_another_crop_stores_squares_that_are_used_whole(weizmann: Path) -> None:
    _, store = run(weizmann, "weizmann", crop="center", size=8)
    assert (store.info.height, store.info.width, store.info.crop) == (8, 8, NO_CROP)
    _, boxed = run(weizmann, "weizmann", crop="1,2,8,8", size=8)
    assert np.array_equal(boxed.frames(0), video(57)[:38, 2:10, 1:9])
    with pytest.raises(DataError, match="box"):
        run(weizmann, "weizmann", crop="9,9,8,8", size=8)


def test_options_of_another_layout_are_refused(tmp_path: Path) -> None:
    for options in ({"window": 16}, {"frame_step": 2}, {"labels": "folder"}, {"min_frames": 4}, {"strip_size": 8}):
        with pytest.raises(SettingsError, match="--" + next(iter(options)).replace("_", "-")):
            PrepareSettings(tmp_path / "a", tmp_path / "b", "mug", **options)
    for options in ({"every_nth": 2}, {"split": "train"}, {"lists": ("x",)}, {"write_lists": "x"}, {"video_length": 9}):
        with pytest.raises(SettingsError, match="synaction"):
            PrepareSettings(tmp_path / "a", tmp_path / "b", "videos", **options)
    for options in ({"every_nth": 0}, {"video_length": 0}, {"split": "both"}, {"miniclip": True}):
        with pytest.raises(SettingsError):
            PrepareSettings(tmp_path / "a", tmp_path / "b", "mug", **options)
    with pytest.raises(SettingsError, match="weizmann"):
        PrepareSettings(tmp_path / "a", tmp_path / "b", "weizman")


def test_a_failure_leaves_nothing(weizmann: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    before = sorted(weizmann.parent.iterdir())
    with pytest.raises(KeyboardInterrupt):
        prepare(PrepareSettings(weizmann, weizmann.parent / "out", "weizmann"), stop)
    assert sorted(weizmann.parent.iterdir()) == before


def test_a_file_that_changes_meanwhile_is_skipped(weizmann: Path) -> None:
    def replace(progress: Progress) -> None:
        if progress.done == 1:
            save(weizmann, "eli_run", video(30), time_last=True)

    report = prepare(PrepareSettings(weizmann, weizmann.parent / "out", "weizmann"), replace)
    assert [(s.name, "replaced" in s.reason) for s in report.skipped] == [("eli_run.npy", True)]
    store = ClipStore.open(weizmann.parent / "out")
    store.verify()
    assert {name for name, *_ in spans(store)} == {"daria_bend", "shahar_walk"}


def test_long_videos_are_copied_in_blocks(tmp_path: Path) -> None:
    for time_last in (True, False):
        frames = save(tmp_path, f"v{time_last}", video(150, 4, 5), time_last=time_last)
        opened = NpyVideo.open(tmp_path / f"v{time_last}.npy", time_last=time_last, max_frames=150, max_pixels=20)
        blocks = list(opened.blocks(3, 140))
        assert max(map(len, blocks)) <= 64 and np.array_equal(np.concatenate(blocks), frames[3:140])
        with pytest.raises(NpyVideoError):
            NpyVideo.open(tmp_path / f"v{time_last}.npy", time_last=not time_last, max_frames=150, max_pixels=20)


def test_each_synaction_group_of_fifteen_views_has_one_test() -> None:
    layout = REFERENCE_LAYOUTS["synaction"]
    is_test = layout.test_takes(())
    for actor in layout.actors or ():
        for action in layout.actions:
            for seq in "01":
                takes = [Take("n", actor, action, seq, view) for view in range(15)]
                assert sum(map(is_test, takes)) == 1
