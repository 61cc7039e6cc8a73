"""The verbs name the layouts that there are, without importing what reads them."""

from skiagraph.cli.export_set import Format
from skiagraph.cli.import_set import LAYOUTS
from skiagraph.data.layouts import READERS, WRITERS


def test_layouts_are_those_that_there_are():
    assert list(LAYOUTS) == list(READERS)
    assert [form.value for form in Format] == list(WRITERS)
