"""What every room may use: checks, random streams, memory, files, tables in notebooks, progress."""
