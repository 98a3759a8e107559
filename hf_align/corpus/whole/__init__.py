"""Steps that look at all documents before they judge one: duplicates, contamination."""
