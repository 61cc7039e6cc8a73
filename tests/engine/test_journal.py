"""A journal survives being killed in the middle of a line."""

from skiagraph.engine.journal import Journal


def test_rows_are_read_back_in_order(tmp_path):
    first = Journal(tmp_path / "o/j.jsonl")
    assert first.rows == []
    first.append({"a": 1})
    first.append({"b": "ä\nb"})
    assert Journal(tmp_path / "o/j.jsonl").rows == [{"a": 1}, {"b": "ä\nb"}] == first.rows


def test_a_torn_line_is_forgotten_and_written_over(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    journal = Journal(path)
    assert journal.rows == [{"a": 1}]
    journal.append({"c": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'
