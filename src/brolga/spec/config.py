"""Image configs: platform, execution parameters, DiffIDs and history (image-spec, config.md).

A config is its exact bytes, as a manifest is. Each change keeps the history in step with the
layers. "Any extra fields ... MUST NOT generate an error" (config.md), so a case variant of a known
name is rejected only beside that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

from brolga.errors import excerpt
from brolga.spec import json
from brolga.spec.digest import Digest
from brolga.spec.platform import DEFAULT_PLATFORM, PLATFORM_MEMBERS, Platform
from brolga.spec.value import Value, field, replace

_TEXTS: Final = ("User", "WorkingDir", "StopSignal")
_LISTS: Final = ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell")
_SETS: Final = ("ExposedPorts", "Volumes")
_EXECUTION: Final = frozenset({*_TEXTS, *_LISTS, *_SETS, "Labels"})
_ROOTFS: Final = frozenset({"type", "diff_ids"})
_MEMBERS: Final = frozenset({*PLATFORM_MEMBERS, "author", "config", "created", "history", "rootfs"})


def _read_execution(value: object, path: str) -> Mapping[str, Any]:
    """Return the execution parameters, after a check of those that config.md defines."""
    members = json.Members(value, path)
    members.reject_case_variants(_EXECUTION, alone=False)
    for name in _TEXTS:
        members.get(name, json.read_string, "")
    for name in _LISTS:
        members.each(name, json.read_string)
    for name in _SETS:
        members.get(name, json.Members, None)
    members.get("Labels", json.read_string_map, None)
    checked: Mapping[str, Any] = json.freeze(value)
    return checked


def _read_rootfs(value: object, path: str) -> tuple[Digest, ...]:
    """Return the DiffIDs. Docker leaves out an empty list."""
    members = json.Members(value, path)
    members.reject_case_variants(_ROOTFS, alone=False)
    kind = members.need("type", json.read_string)
    if kind != "layers":
        raise json.error_at(json.join_path(path, "type"), f"{excerpt(kind)} is not 'layers'")
    return members.each("diff_ids", json.read_digest)


def _platform_members(platform: Platform) -> dict[str, object]:
    """Return the members of a config for a platform, None for an empty field."""
    return {**dict.fromkeys(PLATFORM_MEMBERS), **replace(platform, extra={}).to_dict()}


class ImageConfig(Value):
    """The config of an image: a typed view of its exact bytes.

    `config` holds the execution parameters (`Env`, `Cmd`, `Labels`, ...), unknown ones too; it is
    read-only, and its arrays are tuples. `created` is the text of an RFC 3339 time. Raises
    InvalidManifest (config.md, Properties).
    """

    raw: bytes = field(repr=False)
    platform: Platform = field(init=False, compare=False)
    created: str = field(init=False, compare=False)
    author: str = field(init=False, compare=False, repr=False)
    config: Mapping[str, Any] = field(init=False, compare=False, repr=False)
    diff_ids: tuple[Digest, ...] = field(init=False, compare=False, repr=False)
    history: tuple[History, ...] = field(init=False, compare=False, repr=False)
    _document: dict[str, object] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Decode the bytes."""
        document = json.decode(self.raw)
        members = json.Members(document, "$")
        members.reject_case_variants(_MEMBERS, alone=False)
        values = {
            "platform": Platform.from_members(members),
            "created": members.get("created", json.read_string, ""),
            "author": members.get("author", json.read_string, ""),
            "config": members.get("config", _read_execution, json.freeze({})),
            "diff_ids": members.need("rootfs", _read_rootfs),
            "history": members.each("history", History.from_dict),
            "_document": document,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Parse a config. Raises InvalidManifest."""
        return cls(raw)

    @classmethod
    def empty(cls, platform: Platform = DEFAULT_PLATFORM) -> ImageConfig:
        """Return the config of an image without layers."""
        document: dict[str, object] = {
            **json.update_members({}, _platform_members(platform)),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        }
        return cls(json.encode(document))

    @property
    def digest(self) -> Digest:
        """The digest of the bytes: the ImageID (config.md, ImageID)."""
        return Digest.of(self.raw)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.raw)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the bytes only."""
        return type(self), (self.raw,)

    def append(self, diff_id: Digest, history: History | None = None) -> ImageConfig:
        """Return a config with one more layer, and its entry in the history.

        The history is first aligned with the layers so far (`align_history`). Raises ValueError
        for an entry without a layer.
        """
        entry = history or History()
        if entry.empty_layer:
            raise ValueError("history: empty_layer is set, but the entry comes with a layer")
        return self.replace(
            diff_ids=(*self.diff_ids, diff_id),
            history=(*align_history(self.history, len(self.diff_ids)), entry),
        )

    def replace(  # noqa: C901, PLR0913 - the members of a config
        self,
        *,
        platform: Platform | None = None,
        created: str | None = None,
        author: str | None = None,
        config: Mapping[str, object] | None = None,
        diff_ids: Iterable[Digest] | None = None,
        history: Iterable[History] | None = None,
    ) -> ImageConfig:
        """Return a config with some members replaced. All others stay, unknown ones too.

        `config` holds changes to execution parameters; None removes one. Empty `created` and
        `author` remove the member. Without a change the bytes stay.

        A `history` that is given must fit the layers; else the present one is aligned with them
        (`align_history`). Raises InvalidManifest.
        """
        changes: dict[str, object] = {}
        if platform is not None and _platform_members(platform) != _platform_members(self.platform):
            changes |= _platform_members(platform)
        for name, new, old in (("created", created, self.created), ("author", author, self.author)):
            if new not in {None, old}:
                changes[name] = new or None
        if config is not None:
            execution = json.thaw(self.config)
            if (updated := json.update_members(execution, json.thaw(config))) != execution:
                changes["config"] = updated
        layers = self.diff_ids if diff_ids is None else tuple(diff_ids)
        entries = self.history if history is None else tuple(history)
        if not changes and layers == self.diff_ids and entries == self.history:
            return self
        if history is None:
            entries = align_history(entries, len(layers))
        elif (count := count_layers(entries)) != len(layers):
            raise json.error_at(
                "$.history", f"entries for {count} layers, but there are {len(layers)}"
            )
        if layers != self.diff_ids:
            rootfs: dict[str, object] = json.thaw(self._document["rootfs"])
            changes["rootfs"] = {**rootfs, "diff_ids": [str(layer) for layer in layers]}
        if entries != self.history:
            changes["history"] = json.reuse_originals(
                entries, self.history, self._document.get("history")
            )
        return ImageConfig(json.encode(json.update_members(self._document, changes)))


_HISTORY_MEMBERS: Final = ("created", "created_by", "author", "comment", "empty_layer")


class History(Value):
    """One step of a build. `empty_layer` is true if it made no layer.

    `created` is the text of an RFC 3339 time. `extra` holds members that the spec does not define
    (config.md, Properties).
    """

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    __hash__ = json.hash_value
    __reduce__ = json.reduce_value

    def __post_init__(self) -> None:
        """Keep a read-only copy."""
        object.__setattr__(self, "extra", json.freeze(self.extra))

    @classmethod
    def from_dict(cls, value: object, path: str = "$") -> Self:
        """Read an entry from a JSON object. Raises InvalidManifest."""
        members = json.Members(value, path)
        members.reject_case_variants(frozenset(_HISTORY_MEMBERS), alone=False)
        return cls(
            members.get("created", json.read_string, ""),
            members.get("created_by", json.read_string, ""),
            members.get("author", json.read_string, ""),
            members.get("comment", json.read_string, ""),
            members.get("empty_layer", json.read_boolean, default=False),
            extra=members.unknown(frozenset(_HISTORY_MEMBERS)),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names, ready for json. Empty ones are left out."""
        values = {name: getattr(self, name) for name in _HISTORY_MEMBERS}
        return {**{name: item for name, item in values.items() if item}, **json.thaw(self.extra)}


def count_layers(history: tuple[History, ...]) -> int:
    """Return how many entries made a layer."""
    return sum(not entry.empty_layer for entry in history)


def align_history(history: tuple[History, ...], layers: int) -> tuple[History, ...]:
    """Return a history with one entry for each of `layers` layers.

    Docker refuses an image whose counts differ. Layers without an entry get an empty one at the
    end. If there are too many entries, the last ones are marked as `empty_layer`.
    """
    surplus = count_layers(history) - layers
    if surplus < 0:
        return (*history, *(History(),) * -surplus)
    entries = list(history)
    for i in reversed(range(len(entries))):
        if surplus and not entries[i].empty_layer:
            entries[i] = replace(entries[i], empty_layer=True)
            surplus -= 1
    return tuple(entries)
