"""Named API keys: the section `keys`."""
