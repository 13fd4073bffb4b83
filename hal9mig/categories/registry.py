"""Which categories there are: HAL9's own, those of installed packages, and those of a user's files."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import pathlib
import sys
import types
from collections.abc import Iterable, Mapping, Sequence

from hal9mig import errors
from hal9mig.categories import configuration, learning, metadata, neurons, sessions
from hal9mig.categories.declaration import Category

ENTRY_POINTS = "hal9mig.categories"
ALL = "all"
_BUILTIN = (sessions.CATEGORY, neurons.CATEGORY, learning.CATEGORY, configuration.CATEGORY, metadata.CATEGORY)
_HINT = "docs/categories.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Registry:
    """The known categories by slug, and for each where it was declared."""

    categories: Mapping[str, Category]
    origins: Mapping[str, str]

    def get(self, name: str) -> Category:
        """Return the category of a slug or an alias.

        Raises:
            errors.UnknownCategory: there is none; the message lists those there are.
        """
        wanted = name.strip()
        for category in self.categories.values():
            if wanted == category.slug or wanted in category.aliases:
                return category
        valid = [category.slug for category in self.ordered()]
        names = [*valid, *(alias for category in self.ordered() for alias in category.aliases)]
        near = difflib.get_close_matches(wanted.lower().replace("_", "-"), names, n=1, cutoff=0.5)
        suggestion = f" Did you mean {near[0]}?" if near else ""
        raise errors.UnknownCategory(
            f"There is no category {wanted!r}.{suggestion}", hint=f"the categories are {', '.join(valid)}"
        )

    def ordered(self) -> tuple[Category, ...]:
        """Return every category in the order in which all are migrated."""
        return tuple(sorted(self.categories.values(), key=lambda category: (category.order, category.slug)))

    def select(self, names: Sequence[str]) -> tuple[Category, ...]:
        """Return the categories that an option names, each once and in order.

        Args:
            names: the option's values, each a name, several with commas between, or ``all``; none is all.

        Raises:
            errors.UnknownCategory: a name is no category's.
        """
        wanted = [name.strip() for value in names for name in value.split(",") if name.strip()]
        if not wanted or ALL in wanted:
            # A wrong name beside `all` is still a wrong name.
            for name in wanted:
                if name != ALL:
                    self.get(name)
            return self.ordered()
        chosen = {self.get(name).slug for name in wanted}
        return tuple(category for category in self.ordered() if category.slug in chosen)


def builtin() -> Registry:
    """Return HAL9's own five categories."""
    return _registry((category, "built in") for category in _BUILTIN)


def load(files: Sequence[pathlib.Path]) -> Registry:
    """Return the built-in categories, those of installed packages and those that files declare.

    A package declares an entry point of the group ``hal9mig.categories`` that is a Category or a
    module; a file is a Python module. Of a module every Category among its names counts.

    Raises:
        errors.InvalidCategory: a file is missing, fails, declares none or one that contradicts itself,
            or two categories have the same name.
    """
    found = [(category, "built in") for category in _BUILTIN]
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        origin = f"entry point {point.name}"
        try:
            loaded = point.load()
        except Exception as error:
            raise _failed(origin, error) from error
        found += [(category, origin) for category in _among(loaded, origin)]
    for path in files:
        found += [(category, str(path)) for category in _among(_module(path), str(path))]
    return _registry(found)


def _registry(found: Iterable[tuple[Category, str]]) -> Registry:
    categories: dict[str, Category] = {}
    origins: dict[str, str] = {}
    owners: dict[str, Category] = {}
    for category, origin in found:
        # A file may import a category that is known already, to build on it.
        if categories.get(category.slug) is category:
            continue
        for name in (category.slug, *category.aliases):
            if name in owners or name == ALL:
                other = origins[owners[name].slug] if name in owners else "reserved"
                raise errors.InvalidCategory(
                    f"The category name {name!r} is taken twice: {other} and {origin}.", hint=_HINT
                )
            owners[name] = category
        categories[category.slug] = category
        origins[category.slug] = origin
    return Registry(categories=categories, origins=origins)


def _among(loaded: object, origin: str) -> list[Category]:
    if isinstance(loaded, Category):
        return [loaded]
    members = vars(loaded).values() if isinstance(loaded, types.ModuleType) else ()
    found = [member for member in members if isinstance(member, Category)]
    if not found:
        raise errors.InvalidCategory(f"{origin} declares no Category.", hint=_HINT)
    return found


def _module(path: pathlib.Path) -> types.ModuleType:
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise errors.InvalidCategory(f"The category file {path} {what}.", hint="hal9-migrate configure show --origin")
    # The path is part of the name, so that two files may be called the same.
    name = f"hal9mig_category_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        # Compiled each time: a cached .pyc may be older than a file that changed within its clock's tick.
        exec(loader.source_to_code(loader.get_data(str(path)), str(path)), vars(module))
    except (Exception, SystemExit) as error:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise _failed(str(path), error) from error
    return module


def _failed(origin: str, error: BaseException) -> errors.InvalidCategory:
    if isinstance(error, errors.InvalidCategory):
        return errors.InvalidCategory(f"{origin}: {error.message}", hint=error.hint)
    where = f", line {error.lineno}" if isinstance(error, SyntaxError) else _line(origin, error)
    return errors.InvalidCategory(
        f"{origin}{where} cannot be loaded: {type(error).__name__}: {getattr(error, 'msg', None) or error}", hint=_HINT
    )


def _line(origin: str, error: BaseException) -> str:
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == origin:
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
