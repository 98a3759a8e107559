"""One page that compares several runs."""
