"""Sources of Parquet and CSV files, and of DuckDB relations, read by DuckDB batch by batch."""

from __future__ import annotations

import functools
import glob
import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from interlace.design.frame import Foreign, hint
from interlace.errors import InterlaceError
from interlace.sources.source import Partition, Source

# Rows of a batch.
ROWS = 1_000_000
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
}
# What stands for a missing value in CSV, beside nothing: what pandas and R write.
_MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null"]
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|DOUBLE|FLOAT|REAL")
_HOW_TO_INSTALL = "pip install 'interlace[sources]'"


def needed(module: str, what: str) -> ModuleType:
    """An optional dependency.

    Raises
    ------
    InterlaceError
        It is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InterlaceError(f"{what} needs {module}: {_HOW_TO_INSTALL}") from error


# Files --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """Reads one file."""

    path: str

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        with _reading(self.path) as connection:
            relation = _relation(connection, self.path)
            known = dict(
                zip(_names(connection, relation, self.path), relation.columns, strict=True)
            )
            for table in _batches(relation, [known[name] for name in columns]):
                yield table.rename_columns(list(columns))


def of_paths(paths: Sequence[str | Path]) -> Source:
    """A source of files, one partition each, in the order of their names.

    Raises
    ------
    InterlaceError
        No such file, an unknown kind of file, or one that cannot be read.
    """
    needed("duckdb", "reading files")
    files = [file for path in paths for file in _found(path)]
    schemas: dict[str, dict[str, str]] = {}
    n: int | None = 0
    for file in files:
        with _reading(file) as connection:
            relation = _relation(connection, file)
            names = _names(connection, relation, file)
            schemas[file] = dict(zip(names, map(str, relation.types), strict=True))
            rows = _number_of_rows(connection, relation, file)
        if rows == 0:
            del schemas[file]
        n = None if n is None or rows is None else n + rows
    title = f"'{files[0]}'" if len(files) == 1 else f"the {len(files)} files"
    if not schemas:
        raise InterlaceError(f"there are no rows in {title}")
    return Source(
        names=tuple(next(iter(schemas.values()))),
        partitions=tuple(Partition(f"'{file}'", _File(file)) for file in schemas),
        title=title,
        n=n,
        check=functools.partial(_check_schemas, schemas),
    )


def _found(path: str | Path) -> list[str]:
    """Files that a path or pattern stands for, sorted."""
    text = str(path)
    if "\0" in text:
        raise InterlaceError(f"{text!r} cannot be the name of a file: it holds a zero byte")
    if "://" in text:
        raise InterlaceError(
            f"'{text}' is not a local file: open it with DuckDB and pass the relation, as in "
            "duckdb.read_parquet(...)"
        )
    if Path(text).is_dir():
        found = sorted(str(p) for p in Path(text).iterdir() if _format(str(p)) is not None)
    else:
        found = [text] if Path(text).is_file() else sorted(glob.glob(text, recursive=True))
    if not found:
        raise InterlaceError(f"no file matches '{text}' (looked in {Path.cwd()})")
    for file in found:
        if _format(file) is None:
            raise InterlaceError(
                f"'{file}' is of an unknown kind: files must end in {', '.join(_FORMATS)}"
            )
    return found


def _format(file: str) -> str | None:
    name = file.lower()
    return next((kind for end, kind in _FORMATS.items() if name.endswith(end)), None)


def _relation(connection: Foreign, file: str) -> Foreign:
    literal = glob.escape(file)
    if _format(file) == "parquet":
        return connection.read_parquet(literal)
    return connection.read_csv(literal, header=True, na_values=_MISSING)


def _names(connection: Foreign, relation: Foreign, file: str) -> list[str]:
    """Names of columns as a file has them: for DuckDB ``x`` and ``X`` are one, and it renames."""
    known: list[str] = list(relation.columns)
    if _format(file) == "parquet":
        query = "SELECT name, num_children FROM parquet_schema(?)"
        found = connection.execute(query, [glob.escape(file)]).fetchall()
        names = _outermost(found)
    else:
        read = connection.read_csv(glob.escape(file), header=False, all_varchar=True)
        names = [str(name) for row in read.limit(1).fetchall() for name in row]
    pairs = zip(names, known, strict=False)
    alike = len(names) == len(known) and all(b.lower().startswith(a.lower()) for a, b in pairs)
    return names if alike and len(set(names)) == len(names) else known


def _outermost(schema: Sequence[tuple[str, int | None]]) -> list[str]:
    """Columns of a Parquet schema, which lists their parts after them."""
    names: list[str] = []
    inside = 0
    for name, children in schema[1:]:
        if inside == 0:
            names.append(name)
        inside += (children or 0) - (inside > 0)
    return names


def _number_of_rows(connection: Foreign, relation: Foreign, file: str) -> int | None:
    """Rows of a Parquet file, from its footer; of a CSV file only whether there are any."""
    if _format(file) == "parquet":
        query = "SELECT sum(num_rows) FROM parquet_file_metadata(?)"
        return int(connection.execute(query, [glob.escape(file)]).fetchone()[0])
    return 0 if not relation.limit(1).fetchall() else None


@functools.cache
def _database(process: int) -> Foreign:
    """DuckDB in memory, once a process, since to open it takes longer than to read a small file.

    It keeps nothing of the files: what is read again may have changed on the disk.
    """
    duckdb = needed("duckdb", "reading files")
    return duckdb.connect(config={"enable_external_file_cache": False})


@contextmanager
def _reading(file: str) -> Iterator[Foreign]:
    """A connection; what goes wrong in DuckDB is an ``InterlaceError`` that names the file."""
    duckdb = needed("duckdb", "reading files")
    try:
        with _database(os.getpid()).cursor() as connection:
            yield connection
    except (duckdb.Error, OSError) as error:  # an OSError where Arrow hands on DuckDB's
        _database.cache_clear()  # some errors leave a database that answers no more
        reason = _reason(error)
        raise InterlaceError(
            f"the file '{file}' cannot be read; it may be corrupt or incomplete: {reason}"
        ) from error


def _reason(error: Exception) -> str:
    """What DuckDB says, without its advice."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:1] + [line for line in lines[1:4] if "Could not" in line])


def _check_schemas(schemas: Mapping[str, Mapping[str, str]], columns: Sequence[str]) -> None:
    """Refuse columns that a file does not have, or that change their type between files."""
    first, known = next(iter(schemas.items()))
    for file, schema in schemas.items():
        for name in columns:
            if name not in schema:
                raise InterlaceError(
                    f"the file '{file}' has no column '{name}'{hint(name, list(schema))}"
                )
            if _kind(schema[name]) != _kind(known[name]):
                raise InterlaceError(
                    f"the column '{name}' changes its type: it is {known[name]} in '{first}', "
                    f"but {schema[name]} in '{file}'; give it one type in all files"
                )


def _kind(dtype: str) -> str:
    """Types that can stand for each other have one kind."""
    if dtype.startswith("ENUM") or dtype == "VARCHAR":
        return "text"
    return "numbers" if _NUMBERS.fullmatch(dtype) else dtype


# Relations ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Relation:
    """Reads a DuckDB relation: the query is run in every pass."""

    relation: Foreign

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        duckdb = needed("duckdb", "a DuckDB relation")
        try:
            yield from _batches(self.relation, columns)
        except (duckdb.Error, OSError) as error:
            raise InterlaceError(f"DuckDB cannot read the relation: {_reason(error)}") from error


def of_relation(relation: Foreign) -> Source:
    """A source of a DuckDB relation."""
    part = Partition("the relation", _Relation(relation))
    return Source(tuple(relation.columns), (part,), "the relation")


def _batches(relation: Foreign, columns: Sequence[str]) -> Iterator[Foreign]:
    """Arrow tables of the columns."""
    arrow = needed("pyarrow", "reading with DuckDB")
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    reader = relation.select(names).to_arrow_reader(ROWS)
    try:
        for batch in reader:
            if batch.num_rows:
                yield arrow.Table.from_batches([batch])
    finally:
        reader.close()
