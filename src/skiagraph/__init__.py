"""skiagraph: reports to chest radiographs, with masks, edits and evidence."""
