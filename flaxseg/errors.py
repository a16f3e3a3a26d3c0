"""Errors that a user's input causes: one clear message each, shown by the commands without a stack trace."""


class FlaxsegError(ValueError):
    """Something given to flaxseg cannot be used; the message names it, what is allowed, and the remedy."""


class ConfigError(FlaxsegError):
    """A key or value of the configuration is wrong; the message lists every one found."""


class DataError(FlaxsegError):
    """A data set, picture or mask cannot be used; the message names the file or folder."""


class CheckpointError(FlaxsegError):
    """A checkpoint or working directory does not fit the run; the message names what differs."""
