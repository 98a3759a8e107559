"""Where rows come from: files, tables, hubs, Python's own documentation."""
