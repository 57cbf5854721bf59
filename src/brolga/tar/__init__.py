"""Reading, checking and writing tar archives, without I/O."""
