"""The loader of the settings, which combines all sources of their values."""
