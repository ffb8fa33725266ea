"""Series in .csv files: the numbers that stand there, or an error that names the line."""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from datetime import date, timedelta

import numpy as np
import pytest

from lqrad.errors import ArgumentError
from lqrad.files.series import load_series

NAN = float("nan")


@pytest.fixture
def read(tmp_path):
    """Read text, or bytes, as a series."""

    def read(text, columns=1):
        path = tmp_path / "series.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_series(path, columns)

    return read


def written(rows, *, separator, decimal, end, quotes):
    """The text of a file, by the writer of the standard library."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, lineterminator=end, quoting=quotes)
    for row in rows:
        writer.writerow([e if isinstance(e, str) else repr(e).replace(".", decimal) for e in row])
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(60))
def test_what_is_written_in_any_way_is_read_to_the_last_bit(read, seed):
    rng = np.random.default_rng(seed)
    separator, decimal = [(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", ".")][seed % 5]
    columns, count = int(rng.integers(1, 4)), int(rng.integers(2, 30))
    y = rng.normal(size=(count, columns)) * 10.0 ** rng.integers(-3, 4)
    y[1:][rng.random((count - 1, columns)) < 0.2] = NAN
    labels = [[], [str(1871 + k) for k in range(count)]]
    labels.append([str(date(2020, 1, 30) + timedelta(days=k)) for k in range(count)])
    chosen = labels[int(rng.integers(3))]
    names = ["time"][: bool(chosen)] + [["flow", "2020", "level; m"][i] for i in range(columns)]
    if not chosen:
        names = [f"y{i}" for i in range(columns)]
    missing = ["", "nan", "NA"][int(rng.integers(3))] if columns + bool(chosen) > 1 else "NA"
    rows = [
        chosen[k : k + 1] + [missing if np.isnan(z) else float(z) for z in y[k]]
        for k in range(count)
    ]
    has_names = bool(rng.integers(2))
    quotes = [csv.QUOTE_MINIMAL, csv.QUOTE_ALL][int(rng.integers(2))]
    end = ["\n", "\r\n", "\r"][int(rng.integers(3))]
    text = written(
        [names] * has_names + rows, separator=separator, decimal=decimal, end=end, quotes=quotes
    )
    encoding = ["utf-8", "utf-8-sig", "utf-16"][int(rng.integers(3))]
    series = read(text.encode(encoding), columns)
    assert series.y.tobytes() == y.tobytes() or np.array_equal(series.y, y, equal_nan=True)
    assert series.labels == (chosen or None)
    assert series.names == (names if has_names else None)


@pytest.mark.parametrize(
    ("text", "y", "labels"),
    [
        ("date;flow\n2020;5,1\n2021;6,2\n", [5.1, 6.2], ["2020", "2021"]),
        ("2020;5,1\n2021;6,2\n", [5.1, 6.2], ["2020", "2021"]),
        ("date,flow; m3/s\n2020,5\n2021,6\n", [5, 6], ["2020", "2021"]),
        ('flow\n"5,1"\n"6,25"\n', [5.1, 6.25], None),
        ("y\n5\n\n6\n", [5, NAN, 6], None),
        ("y\r\n5\r\n\r\n6\r\n\r\n", [5, NAN, 6], None),
        ("y\n5\n  \n6\n", [5, NAN, 6], None),
        ("\n\ny\n5\n6\n", [5, 6], None),
        ("Na\n5\nNA\n6\n", [5, NAN, 6], None),
        ("year,2020\n1871,5\n1872,6\n", [5, 6], ["1871", "1872"]),
        (",2020\nA,5\nB,6\n", [5, 6], ["A", "B"]),
        ("Jan,5.5\nFeb,6\n", [5.5, 6], ["Jan", "Feb"]),
        ('"","flow"\n"1",1120\n"2",1160\n', [1120, 1160], ["1", "2"]),
        ("flow\n2020;1120\n2021;1160\n", [1120, 1160], ["2020", "2021"]),
        ("t;y\n0,1;5,2\n0,2;5,3\n", [5.2, 5.3], ["0.1", "0.2"]),
        ("1;0,234\n2;1,234\n", [0.234, 1.234], ["1", "2"]),
        ("t,y\n1,1.120\n2,1.160\n", [1.12, 1.16], ["1", "2"]),
        ('t,y\n"a\nb",5\nc,6\n', [5, 6], ["a\nb", "c"]),
        (" 5\n +6 \n-.5\n1e3\n", [5, 6, -0.5, 1000], None),
        ("2020-01-31,5.5\n2020-02-29,6\n2020-03-31,7\n", [5.5, 6, 7], None),
        ("2020-01-02,5.5\n2020-01-03,6\n2020-01-06,7\n", [5.5, 6, 7], None),  # a weekend
        ("2020-01,5.5\n2020-02,6\n2020-03,7\n", [5.5, 6, 7], None),
        ("20200131,5.5\n20200201,6\n20200202,7\n", [5.5, 6, 7], None),
        ("01.02.2020;5,5\n02.02.2020;6\n", [5.5, 6], None),
        ("0,5.5\n0.1003,6\n0.1998,7\n", [5.5, 6, 7], None),  # a clock that is not quite even
        ("Mon,5.5\nTue,6\nMon,7\n", [5.5, 6, 7], None),
        ("1/2/2020,5.5\n2/2/2020,6\n3/2/2020,7\n", [5.5, 6, 7], None),  # of February
        ("2019Q4,5.5\n2020Q1,6\n2020-Q2,7\n", [5.5, 6, 7], None),
        ("nan,5.5\n2,6\n", [5.5, 6], ["nan", "2"]),
        ("1e308,5.5\n1.7e308,6\n", [5.5, 6], ["1e308", "1.7e308"]),
    ],
)
def test_what_is_plain_is_read(read, text, y, labels):
    series = read(text)
    np.testing.assert_array_equal(series.y.ravel(), y)
    if labels is not None:
        assert series.labels == labels


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("1,5\n2,25\n3,75\n", 1, "line 1: its comma may be a decimal one or separate a label"),
        ("1,5\n", 1, "write decimal points, or a line with a name for each column above"),
        ("flow\n5,1\n6,2\n", 1, "line 2: its comma may be a decimal one"),
        ("station,2020\nA,5\nB,6\n", 1, "line 1: station, 2020 may be names, or a label and numb"),
        ("t;y\n1;1,234\n2;5,678\n", 1, "line 2: '1,234' may be a fraction or 1234"),
        ("t;y\n1;1.234\n2;5.678\n", 1, "line 2: '1.234' may be a fraction or 1234"),
        ('y\n"1,234"\n"5,678"\n', 1, "line 2: '1,234' may be a fraction or 1234"),
        ("t,y\n1,1 234\n", 1, "line 2: '1 234' is not a number"),
        ("t;y\n1;1.234,5\n", 1, "line 2: '1.234,5' is not a number"),
        ("t,y\n1,1_000\n", 1, "line 2: '1_000' is not a number"),
        ("t,y\n1,0x10\n", 1, "line 2: '0x10' is not a number"),
        ("0x10\n5\n", 1, "line 1: '0x10' is not a number"),
        ("y\n1e400\n", 1, "line 2: '1e400' is not a number"),
        ("y\n-\n5\n", 1, "line 2: '-' is not a number; leave what was not observed empty"),
        ("y\n٣\n5\n", 1, "line 2: '٣' is not a number"),
        ("t,y\n,m3/s\n1,5\n", 1, "line 2: 'm3/s' is not a number"),
        ("a,b\n1,2\n\n3,4\n", 2, "line 3: it is empty; write the separators"),
        ("t,y\n1,2\n\n3,4\n", 1, "line 3: it is empty"),
        ("5,\n6,\n", 1, "no entry of column 2 is a number; a separator at the end of each line"),
        ("5,6,\n7,8,\n", 2, "no entry of column 3 is a number"),
        ("a,b,c\n1,2\n", 2, "line 1: 2 entries below the names a, b, c"),
        ("a,b\n1,2\n3,4,5\n", 2, "line 3: 3 entries, expected 2"),
        ('t,y\n1,"5\n2,6\n3,7\n', 1, "line 2: unexpected end of data"),
        ("t,y\n1," + "5" * 140_000 + "\n", 1, "line 2: field larger than field limit"),
        ("t,y\n1," + "5" * 4_000 + "\n", 1, " ...' is not a number"),
        ("t,y\n1871,5\n1872,6\n1874,7\n", 1, "line 4: 1874 comes 2 steps after 1872"),
        ("t,y\n2020-01-01,5\n2020-01-02,6\n2020-01-05,7\n", 1, "line 4: 2020-01-05 comes 3 steps"),
        ("t,y\n1871,5\n1873,6\n1872,7\n", 1, "line 4: 1872 does not come after 1873"),
        ("t,y\n1871,5\n1871,6\n", 1, "line 3: 1871 does not come after 1871"),
        ("t,y\n1/2/2020,5\n1/2/2020,6\n", 1, "line 3: 1/2/2020 does not come after 1/2/2020"),
        ("t,y\n1/2/2020,5\n1/3/2020,6\n1/5/2020,6\n", 1, "line 4: 1/5/2020 comes"),
        ("2020Q1,5.5\n2020Q2,6\n2020Q4,6\n", 1, "line 3: 2020Q4 comes"),
        ("Jan 2020,5.5\nFeb 2020,6\nApr 2020,6\n", 1, "line 3: Apr 2020 comes"),
        ("00:00,5.5\n01:00,6\n03:00,6\n", 1, "line 3: 03:00 comes 2 steps after 01:00"),
        ("t,y\n" + 2 * ("9" * 400 + ",5\n"), 1, "was there before"),
        ("0,1\n5.5,6\n7,8.5\n", 2, "line 1: 0, 1 may be names, or numbers; put a line with a name"),
        ("2019,2020\n15,16\n17,12\n", 2, "line 1: 2019, 2020 may be names, or numbers"),
        ("t,y\n1,5\n,6\n", 1, "line 3: it has no label"),
        (b"t,y\n1,5\n2,\xff6\n", 1, "line 3: it is not text in UTF-8; save it as UTF-8"),
        ("y\n5\n".encode("utf-16-le"), 1, "line 1: it holds a NUL; save it as text in UTF-8"),
        ("", 1, "holds no rows of numbers"),
        ("\n\n\n", 1, "holds no rows of numbers"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_not_is_refused_with_its_line(read, text, columns, words):
    with pytest.raises(ArgumentError, match=re.escape(words)) as raised:
        read(text, columns)
    assert "series.csv, line " in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("seed", range(300))
def test_no_text_raises_anything_else(read, seed):
    """Letters that matter, in any order: read, or refused."""
    rng = np.random.default_rng(seed)
    parts = [
        "1",
        "2,5",
        "3.5",
        ",",
        ";",
        "\t",
        "\n",
        "\r\n",
        '"',
        "a",
        "NA",
        "2020",
        "-",
        " ",
        "\0",
    ]
    parts += ["2020-01-01", "\ufeff", "1e999"]
    text = "".join(rng.choice(parts, size=int(rng.integers(1, 30))))
    with suppress(ArgumentError):
        assert not np.isinf(read(text, int(rng.integers(1, 4))).y).any()


def test_a_name_that_is_none_is_refused():
    for path in (3, None, "a\0b"):
        with pytest.raises(ArgumentError, match=r"path is .*, expected the name of a file"):
            load_series(path, 1)
