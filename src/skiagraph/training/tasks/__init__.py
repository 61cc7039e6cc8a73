"""One file per trained thing."""
