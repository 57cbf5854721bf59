"""Image configs: the platform, how to run the image, its layers' DiffIDs and their history.

Knows config.md of the OCI image-spec 1.1, which Docker's format agrees with. Must not know the
config's media type, nor where the layers are.

Strategy: as for manifests, a config is its bytes; a change is made in the document that was
read, and the result is read anew. History is kept in step with the layers by every change. "Any
extra fields ... MUST NOT generate an error" (config.md), so a known name in other letters is
refused only beside the known one: two readers would take different members.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from brolga.errors import excerpt
from brolga.spec.descriptor import DEFAULT_PLATFORM, Platform
from brolga.spec.digest import Digest
from brolga.spec.json import (
    Members,
    decode,
    encode,
    freeze,
    hashable,
    path,
    read_digest,
    read_flag,
    read_strings,
    read_text,
    reduced,
    reuse_originals,
    thaw,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

__all__ = ["History", "ImageConfig", "align_history", "count_layers"]

_TEXTS: Final = ("User", "WorkingDir", "StopSignal")
_LISTS: Final = ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell")
_SETS: Final = ("ExposedPorts", "Volumes")
_EXECUTION: Final = frozenset({*_TEXTS, *_LISTS, *_SETS, "Labels"})
_ROOTFS: Final = frozenset({"type", "diff_ids"})
_MEMBERS: Final = frozenset(
    {
        "architecture",
        "author",
        "config",
        "created",
        "history",
        "os",
        "os.features",
        "os.version",
        "rootfs",
        "variant",
    }
)


def _read_execution(value: object, where: str) -> Mapping[str, Any]:
    """Return the execution parameters, those of config.md checked (config.md, config)."""
    members = Members(value, where)
    members.reject_case_variants(_EXECUTION, alone=False)
    for name in _TEXTS:
        members.get(name, read_text, "")
    for name in _LISTS:
        members.each(name, read_text)
    for name in _SETS:
        members.get(name, Members, None)
    members.get("Labels", read_strings, None)
    checked: Mapping[str, Any] = freeze(value)
    return checked


def _read_rootfs(value: object, where: str) -> tuple[Digest, ...]:
    """Return the DiffIDs. Docker leaves the list out where there are none."""
    members = Members(value, where)
    members.reject_case_variants(_ROOTFS, alone=False)
    kind = members.need("type", read_text)
    if kind != "layers":
        raise wrong(path(where, "type"), f"{excerpt(kind)} is not 'layers'")
    return members.each("diff_ids", read_digest)


def _platform_members(platform: Platform) -> dict[str, object]:
    """Return a platform as a config has it, None for what it does not say."""
    return {
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": platform.os_version or None,
        "os.features": list(platform.os_features) or None,
        "variant": platform.variant or None,
    }


def _merged(
    members: Mapping[str, object], changes: Mapping[str, object | None]
) -> dict[str, object]:
    """Return members with changes; None takes one away."""
    changed = {**members, **changes}
    for name in [name for name, value in changes.items() if value is None]:
        del changed[name]
    return changed


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The config of an image: a typed view over its exact bytes.

    `config` holds the execution parameters by their names (`Env`, `Cmd`, `Labels`, ...), unknown
    ones too; it can be read only, and its arrays are tuples. `created` is a time as of RFC 3339,
    as it was written. Raises InvalidManifest (config.md, Properties).
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
        """Read the bytes."""
        document = decode(self.raw)
        members = Members(document, "$")
        members.reject_case_variants(_MEMBERS, alone=False)
        values = {
            "platform": Platform(
                members.get("os", read_text, ""),
                members.get("architecture", read_text, ""),
                members.get("variant", read_text, ""),
                members.get("os.version", read_text, ""),
                members.each("os.features", read_text),
            ),
            "created": members.get("created", read_text, ""),
            "author": members.get("author", read_text, ""),
            "config": members.get("config", _read_execution, freeze({})),
            "diff_ids": members.need("rootfs", _read_rootfs),
            "history": members.each("history", History.from_dict),
            "_document": document,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Read a config. Raises InvalidManifest."""
        return cls(raw)

    @classmethod
    def empty(cls, platform: Platform = DEFAULT_PLATFORM) -> ImageConfig:
        """Return the config of an image without layers."""
        document: dict[str, object] = {
            **_merged({}, _platform_members(platform)),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        }
        return cls(encode(document))

    @property
    def digest(self) -> Digest:
        """The digest of the bytes: the ImageID (config.md, ImageID)."""
        return Digest.of(self.raw)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.raw)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the value from its bytes."""
        return type(self), (self.raw,)

    def append(self, diff_id: Digest, history: History | None = None) -> ImageConfig:
        """Return a config with one layer more, and its entry in the history.

        Where the history does not fit the layers so far it is mended first, by the rules of
        `replace`. Raises ValueError for an entry that says it has no layer.
        """
        entry = history or History()
        if entry.empty_layer:
            raise ValueError("history: empty_layer is set, but the entry comes with a layer")
        return self.replace(
            diff_ids=(*self.diff_ids, diff_id),
            history=(*align_history(self.history, len(self.diff_ids)), entry),
        )

    def replace(  # noqa: PLR0913 - the members of a config
        self,
        *,
        platform: Platform | None = None,
        created: str | None = None,
        author: str | None = None,
        config: Mapping[str, object] | None = None,
        diff_ids: Iterable[Digest] | None = None,
        history: Iterable[History] | None = None,
    ) -> ImageConfig:
        """Return a config with other members; what is not given stays, unknown members too.

        `config` holds changes: the parameters that it names are set, or taken away by None. Empty
        `created` and `author` are taken away. Where nothing changes the bytes stay.

        After a change the history has an entry for each layer: layers that lack one get an empty
        one at the end; where there were too many, the last ones are marked as `empty_layer`, and
        none is dropped. A `history` that is given must fit as it is. Raises InvalidManifest.
        """
        changes: dict[str, object] = {}
        if platform is not None and _platform_members(platform) != _platform_members(self.platform):
            changes |= _platform_members(platform)
        if created not in {None, self.created}:
            changes["created"] = created or None
        if author not in {None, self.author}:
            changes["author"] = author or None
        if config is not None:
            execution = thaw(self.config)
            if (merged := _merged(execution, thaw(config))) != execution:
                changes["config"] = merged
        return self._changed(changes, diff_ids, history)

    def _changed(
        self,
        changes: dict[str, object],
        diff_ids: Iterable[Digest] | None,
        history: Iterable[History] | None,
    ) -> ImageConfig:
        layers = self.diff_ids if diff_ids is None else tuple(diff_ids)
        entries = self.history if history is None else tuple(history)
        if not changes and layers == self.diff_ids and entries == self.history:
            return self
        if history is None:
            entries = align_history(entries, len(layers))
        elif (count := count_layers(entries)) != len(layers):
            raise wrong("$.history", f"entries for {count} layers, where there are {len(layers)}")
        if layers != self.diff_ids:
            rootfs: dict[str, object] = thaw(self._document["rootfs"])
            changes["rootfs"] = {**rootfs, "diff_ids": [str(layer) for layer in layers]}
        if entries != self.history:
            changes["history"] = reuse_originals(
                entries, self.history, self._document.get("history")
            )
        return ImageConfig(encode(_merged(self._document, changes)))


_HISTORY_MEMBERS: Final = frozenset({"created", "created_by", "author", "comment", "empty_layer"})


@dataclass(frozen=True, slots=True)
class History:
    """One step of an image's making. `empty_layer` tells that it made no layer.

    `created` is a time as of RFC 3339, as it was written. `extra` holds members that the spec
    does not define (config.md, Properties).
    """

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def __hash__(self) -> int:
        """Hash every field: a set of many entries stays fast."""
        texts = (self.created, self.created_by, self.author, self.comment)
        return hash((texts, self.empty_layer, hashable(self.extra)))

    def __post_init__(self) -> None:
        """Keep a read-only copy."""
        object.__setattr__(self, "extra", freeze(self.extra))

    @classmethod
    def from_dict(cls, value: object, where: str = "$") -> Self:
        """Read an entry. Raises InvalidManifest, naming the place."""
        members = Members(value, where)
        members.reject_case_variants(_HISTORY_MEMBERS, alone=False)
        return cls(
            members.get("created", read_text, ""),
            members.get("created_by", read_text, ""),
            members.get("author", read_text, ""),
            members.get("comment", read_text, ""),
            members.get("empty_layer", read_flag, default=False),
            extra=members.unknown(_HISTORY_MEMBERS),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names, ready for json. What is empty is absent."""
        optional = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {**{name: item for name, item in optional.items() if item}, **thaw(self.extra)}

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the entry from its fields."""
        return reduced(self)


def count_layers(history: tuple[History, ...]) -> int:
    """Return for how many layers there is an entry."""
    return sum(not entry.empty_layer for entry in history)


def align_history(history: tuple[History, ...], layers: int) -> tuple[History, ...]:
    """Return a history with an entry for each of so many layers, and no more.

    Docker refuses an image whose counts differ. Layers are matched from the first on: those that
    lack an entry get an empty one at the end. Of too many entries none is dropped: the last ones
    are marked as `empty_layer`.
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
