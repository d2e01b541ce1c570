"""The one exception that means: the user's mistake, not ours. Commands print its message and end with exit code 2."""


class UserError(Exception):
    """What the user asked for can't be done; the message names the value and what was expected, in a line or two."""
