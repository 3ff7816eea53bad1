"""The words of the study language, expanded: from what a study's files say to plain entries.

- `$name` stands for the models of a group of study.yaml, alone or within a list.
- `vary: {c: [5, 15]}` makes an entry several: one for each value, or combination of values, with `{c}` filled in.
- `each: {c: [5, 15]}` does the same to an item of a list in an artifact, such as a column.
- `$name` stands for one of the `lists` of artifacts.yaml as well; `use: name` for its items, with `{names}` filled in.
- `metric-table: {...}` in an artifact, the name of its plot, stands for `kind`, `plot` and `parameters`.
- `like: <id>` starts from another entry of the same file; own keys come over its keys, mapping by mapping.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from redoubt import registry
from redoubt.errors import RedoubtError, shortened
from redoubt.study.reading import known, merged

SECTIONS = {"models": ("baselines", "models"), "attacks": ("attacks",), "artifacts": ("artifacts",)}
"""The keys of a study's files whose entries may say `vary` and `like`."""

GROUPED = ("attacks", "artifacts", "claims")
"""The files in which `$name` stands for the models of a group."""

LISTS = "lists"
"""The key of artifacts.yaml under which lists have names."""

Groups = Mapping[str, list[str]]
GROUP = r"^\$([a-z0-9.-]+)$"
"""Pattern of the name of a group in the place of its models: no id has a $, and no formula $...$ matches."""
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_METHODS = ("defense", "attack", "probe", "plot")  # what `parameters` belong to
_NAMED = ("network", "preprocessing")  # methods that stand with their parameters in one mapping
_OWN = {"module", "arguments"}  # a network of the user's
_SCRATCH = {"dataset", "network", "preprocessing", "weights"} | _OWN
_ORIGINS = (({"start"}, _SCRATCH), (_SCRATCH, {"start"}), ({"network"}, _OWN), ({"module"}, {"network"} | _OWN))
"""Keys by which a model begins, and those that go where one of them is said."""


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
    entries, lists = written(part, value, where), _lists(value, where) if part == "artifacts" else {}
    result = {key: own for key, own in value.items() if key != LISTS or part != "artifacts"}
    for section in SECTIONS.get(part, ()):
        if isinstance(value.get(section), Mapping):
            plain = {key: entry for key, entry in value[section].items() if not isinstance(entry, Mapping)}
            own = [key for key, found in entries.items() if found.section == section]
            result[section] = {key: _merged(key, entries, where) for key in own} | plain
            if part == "artifacts":
                result[section] = with_each(result[section], f"{where}: {section}", _Scope(lists))
    return result


def written(part: str, value: Mapping[str, Any], where: str) -> dict[str, Written]:
    """Return the entries of one of a study's files by id, with `vary` filled in and `like` as it is."""
    result: dict[str, Written] = {}
    plots = registry.names("artifacts") if part == "artifacts" else []
    for section in SECTIONS.get(part, ()):
        entries = value.get(section)
        for key, entry in entries.items() if isinstance(entries, Mapping) else ():
            if not isinstance(entry, Mapping):
                continue
            place = _below(f"{where}: {section}", key)
            for name, filled in _varied(key, plotted(entry, plots, place), place):
                if name in result:
                    reason = "vary makes it twice; " if "vary" in entry else ""
                    raise RedoubtError(f"{place}: {name!r}: {reason}an id is given to one entry of the file only")
                result[name] = Written(section, key, filled)
    return result


def plotted(entry: Mapping[str, Any], plots: Iterable[str], where: str) -> dict[str, Any]:
    """Return an artifact with `kind`, `plot` and `parameters` where it has its parameters under the name of its plot.

    Raises:
        RedoubtError: it says twice what its plot is; the message begins with `where`.
    """
    own = [key for key in plots if key in entry]
    if not own:
        return dict(entry)
    if twice := [key for key in (*own[1:], "kind", "plot", "parameters") if key in entry]:
        raise RedoubtError(f"{where}: {own[0]} and {twice[0]}: an artifact says once what draws it")
    rest = {key: value for key, value in entry.items() if key != own[0]}
    kind = registry.method("artifacts", own[0]).KIND
    return {"kind": kind, "plot": own[0], "parameters": entry[own[0]], **rest}


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
    for one, other in _ORIGINS:
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


@dataclass(frozen=True)
class _Scope:
    """What names stand for at a place: the lists of the file, and the values of every `each` and `use` around it."""

    lists: Mapping[str, list[Any]]
    given: Mapping[str, Any] = field(default_factory=dict)

    def within(self, given: Mapping[str, Any]) -> _Scope:
        """Return the scope of what is inside an `each`."""
        return _Scope(self.lists, {**self.given, **given})

    def of(self, name: str, given: Mapping[str, Any]) -> _Scope:
        """Return the scope of a list: it may name those above it, so that none is within itself."""
        above = itertools.takewhile(lambda pair: pair[0] != name, self.lists.items())
        return _Scope(dict(above), {**self.given, **given})

    def said(self, value: Any) -> set[str]:
        """Return the names that stand in braces in data, and in the lists that it uses."""
        used = [name for part in _mappings(value) if isinstance(name := part.get("use"), str) and name in self.lists]
        return set(_names(value)).union(*(self.of(name, {}).said(self.lists[name]) for name in used))


def with_each(value: Any, where: str, scope: _Scope) -> Any:
    """Return data with what `$name` of a list, and items that say `each` or `use`, stand for in their places.

    Raises:
        RedoubtError: values are none, a name is not theirs or not used, or there is no such list; the message begins
            with `where`.
    """
    if isinstance(value, Mapping):
        return {key: with_each(part, _below(where, key), scope) for key, part in value.items()}
    if isinstance(value, list):
        return [new for number, item in enumerate(value) for new in _items(item, _below(where, number), scope)]
    return list(_items(value, where, scope)) if _list_of(value, scope) else value


def _items(item: Any, where: str, scope: _Scope) -> Iterator[Any]:
    """Yield the items of a list that one of them stands for."""
    if name := _list_of(item, scope):
        yield from with_each(scope.lists[name], where, scope.of(name, {}))
    elif isinstance(item, Mapping) and "each" in item:
        template = {key: part for key, part in item.items() if key != "each"}
        for given in _combinations(with_each(item["each"], where, scope), f"{where}.each"):
            if unused := given.keys() - scope.said(template):
                raise RedoubtError(f"{where}.each: nothing says {{{min(map(str, unused))}}}")
            yield from _items(_filled(template, given, where), where, scope.within(given))
    elif isinstance(item, Mapping) and "use" in item:
        yield from _used(item["use"], {key: part for key, part in item.items() if key != "use"}, where, scope)
    else:
        yield with_each(item, where, scope)


def _used(name: Any, given: Mapping[str, Any], where: str, scope: _Scope) -> list[Any]:
    """Return the items of a list with names filled in: those that are given with it, else those of its scope."""
    if not isinstance(name, str) or name not in scope.lists:
        raise RedoubtError(f"{where}.use: {name!r:.80} is not one of {shortened(list(scope.lists), 20) or 'no lists'}")
    inner = scope.of(name, with_each(given, where, scope))
    if unused := given.keys() - inner.said(scope.lists[name]):
        raise RedoubtError(f"{where}.use: nothing says {{{min(map(str, unused))}}}")
    filled: list[Any] = with_each(_filled(scope.lists[name], inner.given, f"{where}.use.{name}"), where, inner)
    return filled


def _list_of(value: Any, scope: _Scope) -> str | None:
    """Return the name of the list that a text stands for, None where it is another text or value."""
    found = re.match(GROUP, value) if isinstance(value, str) else None
    return found[1] if found and found[1] in scope.lists else None


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings in data, itself among them."""
    if isinstance(value, Mapping):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _mappings(part)


def _lists(value: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    lists = value.get(LISTS, {})
    if not isinstance(lists, Mapping):
        raise RedoubtError(f"{where}: {LISTS}: expected names, each with a list")
    for name, items in lists.items():
        if not re.match(GROUP, f"${name}"):
            raise RedoubtError(f"{where}: {LISTS}.{name!r:.80}: a name is lower-case letters, digits, dots and hyphens")
        if not isinstance(items, list):
            raise RedoubtError(f"{_below(f'{where}: {LISTS}', name)}: expected a list")
    return dict(lists)


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
            raise RedoubtError(f"{where}: {{{name}}} is not one of the names there: {', '.join(map(str, given))}")
    if found := _VARIABLE.fullmatch(value):
        return given[found[1]]
    return _VARIABLE.sub(lambda match: str(given[match[1]]), value)
