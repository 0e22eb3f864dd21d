"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Something that came from outside is wrong: a flag, a file, a data set.

    The message is one line that says what is wrong, what was expected and the way out.
    Entry points print it and exit with 1; anything else is a defect and keeps its traceback.
    """
