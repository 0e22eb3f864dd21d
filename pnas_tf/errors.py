"""The error for wrong input, which the user can correct, and text that is safe to show."""


class InputError(ValueError):
    """Wrong input from outside: a flag, a file, a data set, a device.

    The message is one line that says what is wrong, what was expected, and the way out; it is made `printable`.
    Commands print it and exit with 1. Any other error is a defect of the program and keeps its traceback.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


def printable(text: object, limit: int = 2000) -> str:
    """Turns text of a file or a device into one line that is safe to print: no character of it controls the terminal.

    Args:
        text: Text to show, untrusted.
        limit: Largest number of characters; longer text is cut and ends in "...".

    Returns:
        The text with `?` for each character that is not printable, such as control characters, line breaks, changes of
        writing direction and lone surrogates.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text)[:limit + 1])
    return shown if len(shown) <= limit else shown[:limit - 3] + "..."


def shown(value: object) -> str:
    """Describes a value from a file for an error message: text and numbers by their value, others by their type.

    Args:
        value: Parsed value, untrusted.
    """
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print very long integers
        return "a huge number"
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"
