"""A person at the keyboard, for what asks by `input=`."""


def typing(typed, shown, ending):
    """Answer each question by the next line, then raise `ending`; what was asked goes to shown."""
    lines = iter(typed)

    def type_next(prompt):
        shown.append(prompt)
        try:
            return next(lines)
        except StopIteration:
            raise ending from None

    type_next.left = lambda: list(lines)
    return type_next
