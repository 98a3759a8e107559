"""Rules that judge or edit one document, each a pure function of it."""
