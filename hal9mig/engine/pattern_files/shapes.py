"""Which files a category's records lie in, and which columns those have."""

from __future__ import annotations

from hal9mig import errors
from hal9mig.categories import compiled, identifiers
from hal9mig.categories.declaration import Category, Column, Role, Target
from hal9mig.engine.pattern_files.manifest import EXPORTED, SCHEMA_VERSION, FolderManifest
from hal9mig.engine.pattern_files.rows_file import HASH, FileShape

_DECLARED = "hal9-migrate db check"


def exported(category: Category) -> FileShape:
    """Return what an exported file holds: flat records, and the hash of each."""
    source = category.source
    return FileShape(
        table=identifiers.folder(source.schema, source.table),
        columns=(*source.columns, HASH),
        facts={"category": category.slug, "schema_version": str(SCHEMA_VERSION)},
    )


def transformed(category: Category) -> list[FileShape]:
    """Return what the transformed files of a range hold: rows of each target table, in declared order.

    Columns stand in the order in which a copy writes them. In the root's file each record's hash follows.

    Raises:
        errors.SchemaMismatch: the category has tables whose rows several records share, or several roots.
    """
    if len(category.roots) != 1 or any(target.role is Role.SHARED for target in category.targets):
        raise errors.SchemaMismatch(
            f"{category.slug} has other tables than one root and its parts, so files cannot hold its records.",
            hint=f"hal9-migrate state migrate --category {category.slug}",
        )
    return [_of_target(category, target) for target in category.targets]


def _of_target(category: Category, target: Target) -> FileShape:
    types = {column.name: column for column in category.typed(target)}
    columns: list[Column] = [types[name] for name in compiled.columns(target)]
    return FileShape(
        table=identifiers.folder(target.schema, target.table),
        columns=(*columns, HASH) if target.role is Role.ROOT else tuple(columns),
        facts={
            "category": category.slug,
            "schema_version": str(SCHEMA_VERSION),
            "transform_version": str(category.transform_version),
        },
    )


def of(category: Category, kind: str) -> list[FileShape]:
    """Return the shapes of a range's files in a folder of this kind."""
    return [exported(category)] if kind == EXPORTED else transformed(category)


def require_declared(made: FolderManifest, category: Category, name: str) -> None:
    """Raise where a folder holds other records than are declared now.

    Args:
        name: what errors call the folder.

    Raises:
        errors.Refused: another category's, another version's, or other columns.
    """
    if made.category != category.slug:
        raise errors.Refused(f"{name} holds {made.category}, and not {category.slug}.", hint="name another folder")
    if made.schema_version != SCHEMA_VERSION:
        raise errors.Refused(
            f"{name} holds records of schema version {made.schema_version}, and this program's is {SCHEMA_VERSION}.",
            hint="export them again",
        )
    if made.kind != EXPORTED and made.transform_version != category.transform_version:
        raise errors.Refused(
            f"{name} was transformed by version {made.transform_version}, and this program's is "
            f"{category.transform_version}.",
            hint="transform the export again",
        )
    declared = of(category, made.kind)
    for shape in declared:
        if made.columns.get(shape.table) != shape.declared:
            raise errors.SchemaMismatch(
                f"{name} holds other columns of {shape.table} than are declared.", hint=_DECLARED
            )
    for one in made.ranges:
        if [file.table for file in one.files] != [shape.table for shape in declared]:
            raise errors.Refused(f"{name} has a range, {one.number}, without one file of each table.")
