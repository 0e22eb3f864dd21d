"""The one kind of error that is the user's to mend, and text that is safe to show."""




class InputError(ValueError):
    """Something that came from outside is wrong: a flag, a file, a data set.

    The message is one line that says what is wrong, what was expected and the way out; names from files and devices
    in it are made `printable`. Entry points print it and exit with 1; anything else is a defect and keeps its
    traceback.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(message))


def printable(text: object, limit: int = 2000) -> str:
    """Text of a file or a device, as one line that a terminal shows and does not obey.

    Args:
        text: what to show.
        limit: letters; of what is longer, the rest is left out.

    Returns:
        `?` for each control character, line break, change of direction or half of a pair: whatever has no picture.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text)[:limit + 1])
    return shown if len(shown) <= limit else shown[:limit - 3] + "..."


def shown(value: object) -> str:
    """A value that was parsed from a file, for an error message: text and numbers cut short, of all else its kind."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to write out very long ones
        return "a huge number"
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"
