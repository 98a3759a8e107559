"""Models out of run folders: found, loaded, merged, scored with."""
