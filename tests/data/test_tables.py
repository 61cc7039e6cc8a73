import pytest

from skiagraph.data.tables import read_table
from skiagraph.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(content):
        (tmp_path / "t.csv").write_text(content, encoding="utf-8")
        return tmp_path / "t.csv"

    return write


def test_names_ignore_case_spaces_and_a_byte_order_mark(table):
    rows = read_table(table('\ufeffID, Report\n1,"Edema;\nAP view."\n\n2,Effusion.\n'), "report")
    assert rows == [{"id": "1", "report": "Edema;\nAP view."}, {"id": "2", "report": "Effusion."}]


def test_short_rows_have_empty_cells(table):
    assert read_table(table("prompt,negative\nEdema.\n"), "prompt") == [{"prompt": "Edema.", "negative": ""}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id;report\n1;Edema.\n", "is separated by semicolons; save it as CSV with commas"),
        ("id\treport\n1\tEdema.\n", "separated by tabs"),
        ("id,text\n1,Edema.\n", "no column 'report'; its columns are id, text"),
        ("", "no column 'report'; its columns are none"),
        ("report\n", "no rows"),
        ('id,report\n1,"Edema.\nAP."\n2, \n', "empty report in line 4"),
        ("id,report\n1\n", "empty report in line 2"),
        ('report\n"Edema.\n', "from line 2: not valid CSV"),
    ],
)
def test_each_mistake_is_named(table, content, message):
    with pytest.raises(DataError, match=message):
        read_table(table(content), "report")


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"report\n\xff\xfe\n")
    for path in (tmp_path / "t.csv", tmp_path / "gone.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(path, "report")
