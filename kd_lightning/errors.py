"""The one error that a user is shown as a sentence instead of a traceback."""


class UserError(Exception):
    """A mistake that the user can fix: one sentence with the value, what was expected and the fix.

    The command line prints it without a traceback and exits with status 2.
    """
