"""config.py: image configs and their history: parsed, written and changed."""

import json
import pickle
from typing import Any

import pytest
from tests.unit.spec.samples import CONFIG, changed, digest_of, indented

from brolga.errors import InvalidManifest
from brolga.spec.config import History, ImageConfig, align_history, count_layers
from brolga.spec.digest import Digest
from brolga.spec.platform import Platform

DIFF_ID = Digest.of(b"new layer")


def read(config: ImageConfig) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(config.raw)
    return document


def test_parse_reads_every_property_of_docker_config() -> None:
    """Every property of config.md; Go writes null for an empty one."""
    raw = indented(CONFIG)
    config = ImageConfig.parse(raw)
    assert config.platform == Platform("linux", "arm64", "v8")
    assert config.created == "2026-01-02T03:04:05.123456789Z"
    assert config.author == ""
    assert config.config["Env"] == ("PATH=/usr/bin:/bin",)
    assert config.config["Labels"] == {"com.example.a": "1"}
    assert config.config["Volumes"] is None
    assert config.diff_ids == tuple(Digest.parse(digest_of(f"diff {i}")) for i in range(2))
    assert [entry.empty_layer for entry in config.history] == [False, True, False]
    assert config.history[0].extra == {"x": {"y": 1}}
    assert (config.raw, config.digest, config.size) == (raw, Digest.of(raw), len(raw))


def test_parse_reads_missing_members_as_empty() -> None:
    """'Any OPTIONAL field MAY also be set to null, which is equivalent to being absent'."""
    for document in (
        {"rootfs": {"type": "layers"}},
        {"config": None, "history": None, "rootfs": {"type": "layers", "diff_ids": None}},
    ):
        config = ImageConfig.parse(indented(document))
        assert config.platform == Platform("", "")
        assert (config.created, config.author, config.config) == ("", "", {})
        assert (config.diff_ids, config.history) == ((), ())
        assert config.replace(history=[], diff_ids=[], config={}, created="") is config


@pytest.mark.parametrize(
    ("steps", "value", "place"),
    [
        (("architecture",), 1, "$.architecture"),
        (("os.features",), ["a", 1], "$['os.features'][1]"),
        (("created",), 1, "$.created"),
        (("author",), [], "$.author"),
        (("config",), [], "$.config"),
        (("config", "User"), 0, "$.config.User"),
        (("config", "Env"), "PATH=/", "$.config.Env"),
        (("config", "Cmd"), [["sh"]], "$.config.Cmd[0]"),
        (("config", "Volumes"), ["/data"], "$.config.Volumes"),
        (("config", "Labels"), {"com.example.n": 1}, "$.config.Labels['com.example.n']"),
        (("rootfs",), None, "$.rootfs"),
        (("rootfs", "type"), "layers+base", "$.rootfs.type"),
        (("rootfs", "type"), None, "$.rootfs.type"),
        (("rootfs", "diff_ids"), {}, "$.rootfs.diff_ids"),
        (("rootfs", "diff_ids", 1), "sha256:x", "$.rootfs.diff_ids[1]"),
        (("history",), {}, "$.history"),
        (("history", 1, "empty_layer"), "true", "$.history[1].empty_layer"),
    ],
)
def test_parse_error_begins_with_json_path(steps: tuple[Any, ...], value: Any, place: str) -> None:
    """A wrong config is refused in one line that begins with the JSON path."""
    with pytest.raises(InvalidManifest) as caught:
        ImageConfig.parse(indented(changed(CONFIG, *steps, to=value)))
    assert str(caught.value).startswith(f"{place}: ")


def test_parse_rejects_config_of_artifact() -> None:
    """'rootfs object, REQUIRED': the content of the empty descriptor is refused."""
    with pytest.raises(InvalidManifest, match=r"^\$\.rootfs: is missing"):
        ImageConfig.parse(b"{}")


def test_parse_accepts_unknown_members() -> None:
    """'Any extra fields in the Image JSON struct ... MUST NOT generate an error'."""
    config = ImageConfig.parse(indented({**CONFIG, "id": 1, "Author": 1, "config": {"env": 5}}))
    assert (config.author, config.config) == ("", {"env": 5})


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"RootFS": CONFIG["rootfs"]}, "$.RootFS: other clients read it as 'rootfs'"),
        ({"rootfs": {**CONFIG["rootfs"], "Diff_IDs": []}}, "$.rootfs.Diff_IDs: other clients"),
        ({"config": {"Cmd": ["a"], "cmd": ["b"]}}, "$.config.cmd: other clients read it as 'Cmd'"),
        ({"history": [{"empty_layer": True, "Empty_Layer": False}]}, "$.history[0].Empty_Layer"),
    ],
)
def test_parse_rejects_case_variant_beside_known_name(document: dict[str, Any], place: str) -> None:
    """Go's encoding/json ignores case, so two readers would see two configs."""
    with pytest.raises(InvalidManifest) as caught:
        ImageConfig.parse(indented({**CONFIG, **document}))
    assert str(caught.value).startswith(place)


def test_empty_has_required_members() -> None:
    """The REQUIRED properties, and empty lists."""
    assert read(ImageConfig.empty()) == {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    windows = Platform("windows", "amd64", "v1", "10.0.1", ("win32k",))
    assert ImageConfig.empty(windows).platform == windows


def test_append_adds_layer_and_history_entry() -> None:
    """'The array is ordered from first to last' (config.md, history)."""
    entry = History(created_by="brolga append", comment="c")
    longer = ImageConfig.parse(indented(CONFIG)).append(DIFF_ID, entry)
    document = read(longer)
    assert document["rootfs"] == {
        **CONFIG["rootfs"],
        "diff_ids": [*CONFIG["rootfs"]["diff_ids"], str(DIFF_ID)],
    }
    assert document["history"] == [*CONFIG["history"], entry.to_dict()]
    assert [list(item) for item in document["history"][:3]] == [list(i) for i in CONFIG["history"]]
    same = {"rootfs", "history"}
    assert {n: i for n, i in document.items() if n not in same} == {
        n: i for n, i in CONFIG.items() if n not in same
    }
    assert list(document) == list(CONFIG)


def test_append_adds_missing_history_entries() -> None:
    """Two layers of a base without history, and the new one: three entries."""
    base = ImageConfig.parse(indented({**CONFIG, "history": None}))
    longer = base.append(DIFF_ID, History(comment="mine"))
    assert read(longer)["history"] == [{}, {}, {"comment": "mine"}]
    assert read(base.append(DIFF_ID))["history"] == [{}, {}, {}]


def test_append_marks_surplus_history_entries() -> None:
    """No entry is dropped: the last surplus ones are marked as `empty_layer`."""
    base = ImageConfig.parse(indented(changed(CONFIG, "rootfs", "diff_ids", to=[])))
    longer = base.append(DIFF_ID)
    assert [entry.empty_layer for entry in longer.history] == [True, True, True, False]
    assert longer.history[0].extra == {"x": {"y": 1}}


def test_append_rejects_entry_without_layer() -> None:
    """The counts would never match again."""
    with pytest.raises(ValueError, match="empty_layer is set"):
        ImageConfig.empty().append(DIFF_ID, History(empty_layer=True))


def test_replace_aligns_history_after_any_change() -> None:
    """After every change there is one entry with a layer for each layer."""
    base = ImageConfig.parse(indented({**CONFIG, "history": []}))
    assert base.replace() is base
    assert len(base.replace(author="me").history) == 2
    fewer = ImageConfig.parse(indented(CONFIG)).replace(diff_ids=[DIFF_ID])
    assert [entry.empty_layer for entry in fewer.history] == [False, True, True]


def test_replace_rejects_given_history_that_does_not_fit() -> None:
    """A history that the caller gives is not corrected."""
    base = ImageConfig.parse(indented(CONFIG))
    with pytest.raises(InvalidManifest, match=r"^\$\.history: entries for 1 layers, but .* 2$"):
        base.replace(history=[History()])
    assert base.replace(diff_ids=[DIFF_ID], history=[History()]).history == (History(),)


def test_replace_sets_and_removes_execution_parameters() -> None:
    """All others stay, unknown ones too."""
    base = ImageConfig.parse(indented(CONFIG))
    other = base.replace(
        config={
            "Env": (*base.config["Env"], "A=b"),
            "Labels": {**base.config["Labels"], "b": "2"},
            "Cmd": None,
        }
    )
    document = read(other)["config"]
    assert document["Env"] == ["PATH=/usr/bin:/bin", "A=b"]
    assert document["Labels"] == {"com.example.a": "1", "b": "2"}
    assert document["Healthcheck"] == CONFIG["config"]["Healthcheck"]
    assert list(document) == [name for name in CONFIG["config"] if name != "Cmd"]
    assert base.replace(config={"Cmd": ("/bin/sh",), "Absent": None}) is base
    with pytest.raises(InvalidManifest, match=r"^\$\.config\.Env: must be"):
        base.replace(config={"Env": "A=b"})


def test_replace_sets_and_removes_other_members() -> None:
    """Empty `created` and `author` remove the member, and so does an empty field of a platform."""
    base = ImageConfig.parse(indented(CONFIG))
    other = base.replace(platform=Platform("linux", "s390x"), created="", author="me")
    document = read(other)
    assert other.platform == Platform("linux", "s390x")
    assert "variant" not in document
    assert "created" not in document
    assert document["author"] == "me"
    assert document["container"] == "c0ffee"
    assert "author" not in read(other.replace(author=""))
    assert base.replace(platform=base.platform, created=base.created, author="") is base


def test_config_is_value() -> None:
    """It is equal, hashed and pickled by its bytes, and is immutable."""
    config = ImageConfig.parse(indented(CONFIG))
    again = pickle.loads(pickle.dumps(config))  # noqa: S301 - made in this line
    assert again == config
    assert len({again, config}) == 1
    with pytest.raises(TypeError):
        config.config["Env"] = ()  # type: ignore[index]  # that it is read-only is the rule


A, B, C = (History(created_by=name) for name in "abc")
NONE = History(created_by="ENV", empty_layer=True)


def test_history_from_dict_and_to_dict_keep_every_member() -> None:
    """Each field of config.md, history, and unknown members."""
    document = {
        "created": "2026-01-01T00:00:00Z",
        "created_by": "a",
        "author": "b",
        "comment": "c",
        "empty_layer": True,
        "x": {"y": [1]},
    }
    entry = History.from_dict(document)
    assert entry == History("2026-01-01T00:00:00Z", "a", "b", "c", True, extra={"x": {"y": [1]}})
    assert entry.to_dict() == document
    assert History.from_dict({"created": None}).to_dict() == {}
    assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - made in this line
    assert len({entry, History.from_dict(document)}) == 1


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], r"^\$: must be an object, not an array"),
        ({"created_by": 1}, r"^\$\.created_by: must be a string, not a number"),
        ({"empty_layer": 1}, r"^\$\.empty_layer: must be true or false, not a number"),
    ],
)
def test_history_from_dict_rejects_wrong_type(document: object, why: str) -> None:
    """'empty_layer boolean, OPTIONAL' (config.md, history)."""
    with pytest.raises(InvalidManifest, match=why):
        History.from_dict(document)


@pytest.mark.parametrize(
    ("history", "layers", "expected"),
    [
        ((), 0, ()),
        ((A, NONE, B), 2, (A, NONE, B)),
        ((), 2, (History(), History())),
        ((A, NONE), 2, (A, NONE, History())),
        ((A, B, NONE, C), 1, (A, "b", NONE, "c")),
        ((A,), 0, ("a",)),
    ],
)
def test_align_history_has_one_entry_for_each_layer(
    history: tuple[History, ...], layers: int, expected: tuple[History | str, ...]
) -> None:
    """Docker: 'invalid history: the number of non-empty entries must match the layers'."""
    wanted = tuple(
        History(created_by=entry, empty_layer=True) if isinstance(entry, str) else entry
        for entry in expected
    )
    assert align_history(history, layers) == wanted
    assert count_layers(wanted) == layers
