"""What calls of the Python package come to."""

import dsm


def code_of(call) -> str:
    try:
        call()
    except dsm.Error as error:
        return error.code
    return "DSM_OK"
