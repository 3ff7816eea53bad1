"""The words of the study language, expanded: from what a study's files say to plain entries.

- `$name` stands for the models of a group of study.yaml, alone or within a list.
- `vary: {c: [5, 15]}` makes an entry several: one for each value, or combination of values, with `{c}` filled in.
- `each: {c: [5, 15]}` does the same to an item of a list in an artifact, such as a column.
- `like: <id>` starts from another entry of the same file; own keys come over its keys, mapping by mapping.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from redoubt.errors import RedoubtError, shortened
from redoubt.study.reading import known, merged

SECTIONS = {"models": ("baselines", "models"), "attacks": ("attacks",), "artifacts": ("artifacts",)}
"""The keys of a study's files whose entries may say `vary` and `like`."""

GROUPED = ("attacks", "artifacts", "claims")
"""The files in which `$name` stands for the models of a group."""

Groups = Mapping[str, list[str]]
GROUP = r"^\$([a-z0-9.-]+)$"
"""Pattern of the name of a group in the place of its models: no id has a $, and no formula $...$ matches."""
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_METHODS = ("defense", "attack", "probe", "plot")  # what `parameters` belong to
_NAMED = ("network", "preprocessing")  # methods that stand with their parameters in one mapping
_ORIGIN = ({"start"}, {"dataset", "network", "preprocessing"})  # two ways in which a model begins


@dataclass(frozen=True)
class Written:
    """One entry as its file has it, `vary` filled in: where it stands, and its keys, `like` among them."""

    section: str
    key: str
    entry: dict[str, Any]


# -- groups -----------------------------------------------------------------------------------------------------------


def resolved(groups: Groups, models: list[str], where: str) -> dict[str, list[str]]:
    """Return groups as lists of ids; a group may name groups above it, and patterns with *.

    Raises:
        RedoubtError: an id or pattern is of no model, or a group is not above; the message begins with `where`.
    """
    result: dict[str, list[str]] = {}
    for name, members in groups.items():
        found: list[str] = []
        for member in with_groups(members, result, f"{where}.{name}"):
            if "*" not in member:
                known(member, models, f"{where}.{name}")
            matching = [model for model in models if fnmatchcase(model, member)]
            if not matching:
                raise RedoubtError(f"{where}.{name}: {member!r} matches no model of this study")
            found += matching
        result[name] = found
    return result


def with_groups(value: Any, groups: Groups, where: str) -> Any:
    """Return data with the models of a group in place of its `$name`.

    Raises:
        RedoubtError: there is no such group; the message begins with `where` and the place below it.
    """
    if isinstance(value, Mapping):
        return {key: with_groups(part, groups, _below(where, key)) for key, part in value.items()}
    if isinstance(value, list):
        result: list[Any] = []
        for number, part in enumerate(value):
            new = with_groups(part, groups, _below(where, number))
            result += new if isinstance(part, str) and isinstance(new, list) else [new]
        return result
    if isinstance(value, str) and (found := re.match(GROUP, value)):
        if found[1] not in groups:
            names = shortened(list(groups), 20) or "none"
            raise RedoubtError(f"{where}: {value!r}: there is no such group; study.yaml has {names}")
        return list(groups[found[1]])
    return value


def _below(where: str, key: Any) -> str:
    name = str(key) if str(key).isprintable() else repr(key)
    return f"{where}{name}" if where.endswith(": ") else f"{where}.{name}"


# -- entries ----------------------------------------------------------------------------------------------------------


def expanded(part: str, value: Any, where: str) -> Any:
    """Return the content of one of a study's files with every `vary` and `like` of its entries resolved.

    What is no entry is left as it is, for the check of types that follows.

    Raises:
        RedoubtError: a word of the language is misused; the message begins with `where` and the key.
    """
    if not isinstance(value, Mapping):
        return value
    entries = written(part, value, where)
    result = dict(value)
    for section in SECTIONS.get(part, ()):
        if isinstance(value.get(section), Mapping):
            plain = {key: entry for key, entry in value[section].items() if not isinstance(entry, Mapping)}
            own = [key for key, found in entries.items() if found.section == section]
            result[section] = {key: _merged(key, entries, where) for key in own} | plain
            if part == "artifacts":
                result[section] = with_each(result[section], f"{where}: {section}")
    return result


def written(part: str, value: Mapping[str, Any], where: str) -> dict[str, Written]:
    """Return the entries of one of a study's files by id, with `vary` filled in and `like` as it is."""
    result: dict[str, Written] = {}
    for section in SECTIONS.get(part, ()):
        entries = value.get(section)
        for key, entry in entries.items() if isinstance(entries, Mapping) else ():
            if not isinstance(entry, Mapping):
                continue
            place = _below(f"{where}: {section}", key)
            for name, filled in _varied(key, entry, place):
                if name in result:
                    reason = "vary makes it twice; " if "vary" in entry else ""
                    raise RedoubtError(f"{place}: {name!r}: {reason}an id is given to one entry of the file only")
                result[name] = Written(section, key, filled)
    return result


def chain(name: str, entries: Mapping[str, Written], where: str) -> list[Written]:
    """Return an entry, the one that it is like, the one that this is like, and so on.

    Raises:
        RedoubtError: one is not there, or the chain is a circle.
    """
    names, result = [name], [entries[name]]
    while "like" in result[-1].entry:
        at, other = result[-1], result[-1].entry["like"]
        place = f"{_below(f'{where}: {at.section}', at.key)}.like"
        if not isinstance(other, str) or other not in entries:
            raise RedoubtError(f"{place}: {other!r:.80}: there is no such entry in this file")
        if other in names:
            raise RedoubtError(f"{place}: a circle: {' is like '.join([*names, other])}")
        names.append(other)
        result.append(entries[other])
    return result


def _merged(name: str, entries: Mapping[str, Written], where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for found in reversed(chain(name, entries, where)):
        own = {key: value for key, value in found.entry.items() if key != "like"}
        result = merged(_without_replaced(result, own), own)
    return result


def _without_replaced(base: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `base` that go with those over it: none of another method or origin, and no seeds."""
    gone = {"parameters"} if any(key in base and own.get(key, base[key]) != base[key] for key in _METHODS) else set()
    for one, other in (_ORIGIN, _ORIGIN[::-1]):
        if one & own.keys():
            gone |= other
    gone |= {"seeds"} | {key for key in _NAMED if _names_another(base.get(key), own.get(key))}
    return {key: value for key, value in base.items() if key not in gone}


def _names_another(base: Any, own: Any) -> bool:
    """Tell whether both are methods with their parameters, such as networks, but not the same."""
    both = isinstance(base, Mapping) and isinstance(own, Mapping)
    return both and "name" in own and base.get("name") != own["name"]


def _varied(key: Any, entry: Mapping[str, Any], where: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield id and keys of every entry that one with `vary` stands for; of another, itself."""
    if "vary" not in entry:
        yield key, dict(entry)
        return
    template = {name: value for name, value in entry.items() if name != "vary"}
    for given in _combinations(entry["vary"], f"{where}.vary"):
        yield _filled(key, given, where), _filled(template, given, where)


# -- parts of an entry ------------------------------------------------------------------------------------------------


def with_each(value: Any, where: str) -> Any:
    """Return data with every item of a list that says `each` in its place for each combination of its values.

    Raises:
        RedoubtError: the values are none, or a name is not theirs, or not used; the message begins with `where`.
    """
    if isinstance(value, Mapping):
        return {key: with_each(part, _below(where, key)) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    result = []
    for number, item in enumerate(value):
        place = _below(where, number)
        if not isinstance(item, Mapping) or "each" not in item:
            result.append(with_each(item, place))
            continue
        template = {name: part for name, part in item.items() if name != "each"}
        for given in _combinations(item["each"], f"{place}.each"):
            if unused := given.keys() - set(_names(template)):
                raise RedoubtError(f"{place}.each: nothing says {{{min(unused)}}}")
            result.append(with_each(_filled(template, given, place), place))
    return result


def _names(value: Any) -> Iterator[str]:
    """Yield the names that stand in braces in data."""
    if isinstance(value, Mapping | list):
        for part in [*value, *value.values()] if isinstance(value, Mapping) else value:
            yield from _names(part)
    elif isinstance(value, str):
        yield from _VARIABLE.findall(value)


def _combinations(lists: Any, where: str) -> Iterator[dict[str, Any]]:
    """Yield every combination of values by name, the last name fastest; names that stand together go together."""
    if not isinstance(lists, Mapping) or not lists:
        raise RedoubtError(f"{where}: expected names, each with a list of values")
    for names, values in lists.items():
        own = str(names).split()
        if not own or not all(_VARIABLE.fullmatch(f"{{{name}}}") for name in own):
            raise RedoubtError(f"{where}: {names!r:.80}: a name is lower-case letters, digits and _")
        if not isinstance(values, list) or not values:
            raise RedoubtError(f"{where}.{names}: expected a list of values")
        for value in values:
            parts = value if isinstance(value, list) and len(own) > 1 else [value]
            if len(parts) != len(own) or not all(isinstance(part, str | int | float | Mapping) for part in parts):
                many = f"{len(own)} values in a list" if len(own) > 1 else "one value"
                raise RedoubtError(f"{where}.{names}: {value!r:.80}: expected {many}")
    yield from combined(lists)


def combined(lists: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of values by name, as `_combinations`, of lists that are known to be sound."""
    for chosen in itertools.product(*lists.values()):
        parts = [value if isinstance(value, list) else [value] for value in chosen]
        yield {
            name: value
            for names, own in zip(lists, parts, strict=True)
            for name, value in zip(str(names).split(), own, strict=True)
        }


def _filled(value: Any, given: Mapping[str, Any], where: str) -> Any:
    """Return data with `{name}` filled in; a text that is nothing else becomes the value itself, a number too.

    Names of an `each` further in are left for it.
    """
    if isinstance(value, Mapping):
        inner = value.get("each")
        names = inner if isinstance(inner, Mapping) else {}
        later = {name: f"{{{name}}}" for together in names for name in str(together).split()}
        own = {**given, **later}
        return {
            _filled(key, own, where): _filled(part, given if key == "each" else own, _below(where, key))
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_filled(part, given, _below(where, number)) for number, part in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in given:
            raise RedoubtError(f"{where}: {{{name}}} is not one of the names there: {', '.join(given)}")
    if found := _VARIABLE.fullmatch(value):
        return given[found[1]]
    return _VARIABLE.sub(lambda match: str(given[match[1]]), value)
