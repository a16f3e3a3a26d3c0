"""Callbacks that come with flaxseg, by the names in `flaxseg.config.callbacks.CALLBACKS`."""
