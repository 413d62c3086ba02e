"""Errors that a command reports as one sentence."""


class CommandError(Exception):
    """The command cannot do what was asked; the message is a sentence for the user."""


class UsageError(CommandError):
    """What was asked makes no sense."""
