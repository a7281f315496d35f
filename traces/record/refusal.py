"""The one error of the recorder that a user is meant to read."""

USAGE = 2        # exit codes are those of kvbench itself
BAD_INPUT = 3
ENVIRONMENT = 5


class Refusal(Exception):
    """What was looked at, what it should have been, what it is."""

    def __init__(self, where, thing, expected, found, code=BAD_INPUT):
        super().__init__(f"{where}: {thing}: expected {expected}, found {found}")
        self.code = code


def usage(option, expected, found):
    return Refusal("command line", option, expected, found, USAGE)
