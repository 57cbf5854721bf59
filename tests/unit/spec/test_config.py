"""manifest/config.py: image configs, read, written and changed."""

import json
import pickle
from typing import Any

import pytest
from tests.unit.spec.samples import CONFIG, changed, digest_of, indented

from brolga.errors import InvalidManifest
from brolga.spec.config import History, ImageConfig
from brolga.spec.descriptor import Platform
from brolga.spec.digest import Digest

DIFF_ID = Digest.of(b"new layer")


def read(config: ImageConfig) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(config.raw)
    return document


def test_a_config_of_docker_is_read_whole() -> None:
    """Each property of config.md, null where Go has nothing."""
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


def test_what_is_not_said_is_empty() -> None:
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
def test_an_error_names_the_place(steps: tuple[Any, ...], value: Any, place: str) -> None:
    """A wrong config is refused in one line that begins with the place."""
    with pytest.raises(InvalidManifest) as caught:
        ImageConfig.parse(indented(changed(CONFIG, *steps, to=value)))
    assert str(caught.value).startswith(f"{place}: ")


def test_the_config_of_an_artifact_is_no_image_config() -> None:
    """'rootfs object, REQUIRED': the empty descriptor's content is refused, not guessed at."""
    with pytest.raises(InvalidManifest, match=r"^\$\.rootfs: is missing"):
        ImageConfig.parse(b"{}")


def test_names_that_the_spec_does_not_know_are_no_error() -> None:
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
def test_a_name_that_stands_there_in_two_spellings_is_refused(
    document: dict[str, Any], place: str
) -> None:
    """Go's encoding/json ignores case, so two readers would see two configs."""
    with pytest.raises(InvalidManifest) as caught:
        ImageConfig.parse(indented({**CONFIG, **document}))
    assert str(caught.value).startswith(place)


def test_an_empty_config_is_an_image_without_layers() -> None:
    """The REQUIRED properties, and empty lists to be filled."""
    assert read(ImageConfig.empty()) == {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
    windows = Platform("windows", "amd64", "v1", "10.0.1", ("win32k",))
    assert ImageConfig.empty(windows).platform == windows


def test_an_appended_layer_has_its_entry() -> None:
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


def test_a_layer_without_an_entry_gets_an_empty_one() -> None:
    """Two layers of a base without history, and the new one: three entries."""
    base = ImageConfig.parse(indented({**CONFIG, "history": None}))
    longer = base.append(DIFF_ID, History(comment="mine"))
    assert read(longer)["history"] == [{}, {}, {"comment": "mine"}]
    assert read(base.append(DIFF_ID))["history"] == [{}, {}, {}]


def test_an_entry_without_a_layer_gets_marked() -> None:
    """Of too many entries none is dropped: the last ones are marked as `empty_layer`."""
    base = ImageConfig.parse(indented(changed(CONFIG, "rootfs", "diff_ids", to=[])))
    longer = base.append(DIFF_ID)
    assert [entry.empty_layer for entry in longer.history] == [True, True, True, False]
    assert longer.history[0].extra == {"x": {"y": 1}}


def test_an_entry_that_has_no_layer_is_not_appended_with_one() -> None:
    """Its count would be wrong for good."""
    with pytest.raises(ValueError, match="empty_layer is set"):
        ImageConfig.empty().append(DIFF_ID, History(empty_layer=True))


def test_any_change_mends_the_history() -> None:
    """The number of entries with a layer is that of the layers after every change."""
    base = ImageConfig.parse(indented({**CONFIG, "history": []}))
    assert base.replace() is base
    assert len(base.replace(author="me").history) == 2
    fewer = ImageConfig.parse(indented(CONFIG)).replace(diff_ids=[DIFF_ID])
    assert [entry.empty_layer for entry in fewer.history] == [False, True, True]


def test_a_history_that_is_given_must_fit() -> None:
    """What the caller says wrong is not mended behind its back."""
    base = ImageConfig.parse(indented(CONFIG))
    with pytest.raises(InvalidManifest, match=r"^\$\.history: entries for 1 layers, where .* 2$"):
        base.replace(history=[History()])
    assert base.replace(diff_ids=[DIFF_ID], history=[History()]).history == (History(),)


def test_execution_parameters_are_set_and_taken_away() -> None:
    """Those that are not named stay, unknown ones too."""
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


def test_the_other_members_are_set_and_taken_away() -> None:
    """Empty `created` and `author` are taken away, and what a platform does not say."""
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


def test_a_config_is_a_value() -> None:
    """It is its bytes: equal, hashed and pickled by them, and cannot be changed."""
    config = ImageConfig.parse(indented(CONFIG))
    again = pickle.loads(pickle.dumps(config))  # noqa: S301 - made in this line
    assert again == config
    assert len({again, config}) == 1
    with pytest.raises(TypeError):
        config.config["Env"] = ()  # type: ignore[index]  # that it is read-only is the rule
