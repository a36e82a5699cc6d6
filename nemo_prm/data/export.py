# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Labels for other tools: a Parquet file, or a folder of Hugging Face `datasets`, with one typed column a field."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Literal, Sequence, Union, get_args, get_origin, get_type_hints

from nemo_prm.data.jsonl import PathLike
from nemo_prm.data.rows import SCHEMA
from nemo_prm.errors import ConfigError, DataError
from nemo_prm.metrics import finite_or_null
from nemo_prm.types import LabelRow

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 1024  # in memory at once as columns; a row group of the Parquet file


def export_rows(rows: Sequence[LabelRow], output: PathLike) -> None:
    """Write `rows`; the file or folder is there when all of them are.

    Args:
        rows: label rows, at least one.
        output: a Parquet file if it ends in .parquet, and without a suffix a folder for `datasets.load_from_disk`.

    Raises:
        ConfigError: `output` ends in something else, or pyarrow or datasets is not installed.
        DataError: there is no row, or the folder already holds files.
    """
    output = Path(output)
    if output.suffix not in (".parquet", ""):
        raise ConfigError(f"output must end in .parquet, or be a folder without a suffix, found {str(output)!r}.")
    if not rows:
        raise DataError("the labels hold no row to export.")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        (_write_parquet if output.suffix else _write_dataset)(rows, output)
    except ImportError as error:
        raise ConfigError(
            f"The export needs pyarrow and datasets ({error}); install them with: pip install 'nemo-prm[export]'."
        ) from error


def to_record(row: LabelRow) -> dict[str, Any]:
    """Return a row as values by column: the fields of `LabelRow`, with dicts for steps, probes, cost and verdict."""
    record: dict[str, Any] = finite_or_null(dataclasses.asdict(row))
    return {"schema": SCHEMA, **record}


def arrow_schema() -> pyarrow.Schema:
    """Return the columns and their types, taken from the annotations of `LabelRow`."""
    import pyarrow

    struct = _arrow_type(LabelRow)
    return pyarrow.schema([("schema", pyarrow.int64()), *struct])


def _arrow_type(hint: Any) -> Any:
    import pyarrow

    simple = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    if hint in simple:
        return simple[hint]
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return pyarrow.struct([(field.name, _arrow_type(hints[field.name])) for field in dataclasses.fields(hint)])
    arguments = get_args(hint)
    if get_origin(hint) is tuple:  # of any length
        return pyarrow.list_(_arrow_type(arguments[0]))
    if get_origin(hint) is Literal:
        return pyarrow.string()
    assert get_origin(hint) in (Union, types.UnionType), hint
    (found,) = {_arrow_type(argument) for argument in arguments if argument is not types.NoneType}
    return found


def _batches(rows: Sequence[LabelRow], schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    for start in range(0, len(rows), BATCH_ROWS):
        records = list(map(to_record, rows[start : start + BATCH_ROWS]))
        yield pyarrow.RecordBatch.from_pylist(records, schema)


def _write_parquet(rows: Sequence[LabelRow], output: Path) -> None:
    from pyarrow.parquet import ParquetWriter

    schema = arrow_schema()
    partial = output.with_name(f"{output.name}.partial")
    with ParquetWriter(partial, schema) as writer:
        for batch in _batches(rows, schema):
            writer.write_batch(batch)
    partial.replace(output)


def _write_dataset(rows: Sequence[LabelRow], output: Path) -> None:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise DataError(f"{output}: already exists; choose another output.")
    import datasets
    import pyarrow

    schema = arrow_schema()
    dataset = datasets.Dataset(pyarrow.Table.from_batches(_batches(rows, schema), schema))
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        dataset.save_to_disk(f"{scratch}/dataset")
        os.rename(f"{scratch}/dataset", output)
