"""What goes into a gallery: folders, data sets, tables and streams of paths, as one kind of record."""
