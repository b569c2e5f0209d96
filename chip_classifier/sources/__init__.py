"""Where chips come from: a tar, a zip or a folder, behind one interface (source.py)."""
