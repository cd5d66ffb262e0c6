"""From files, tables and services of any layout to rows: sources, shapes, and the reader over both."""
