"""The web page of `skiagraph app`: a tab a verb, each of which runs the same job as the command line."""
