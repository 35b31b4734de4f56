"""Where a matrix comes from: one small class per kind of source."""
