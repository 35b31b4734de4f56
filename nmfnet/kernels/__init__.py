"""Pure tensor functions with leading restart dimensions: every formula of nmfnet is written here once."""
