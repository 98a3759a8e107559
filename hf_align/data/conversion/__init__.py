"""What the columns and turn keys of a row mean: the one place where they are read."""
