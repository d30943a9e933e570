"""Numbers as people read them: three significant digits, and a unit that fits."""

import math

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS = "−"
MISSING = "–"


def digits(value: float | None, count: int = 3) -> str:
    """`value` with `count` significant digits.

    >>> [digits(x) for x in (0.012345, 12.3456, 1234.5, 3.21e-9, -0.5, 0.0, None)]
    ['0.0123', '12.3', '1,230', '3.21×10⁻⁹', '−0.500', '0', '–']
    """
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    if value == 0.0:
        return "0"
    sign = MINUS if value < 0 else ""
    mantissa, exponent = f"{abs(value):.{count - 1}e}".split("e")
    power = int(exponent)
    if -3 <= power < 6:
        return f"{sign}{float(f'{abs(value):.{count - 1}e}'):,.{max(0, count - 1 - power)}f}"
    return f"{sign}{mantissa}×10{str(power).translate(SUPERSCRIPTS)}"


def whole(value: float) -> str:
    """A count with thousands separators.

    >>> whole(12345)
    '12,345'
    """
    return f"{int(value):,}"


def percent(part: float, of: float) -> str:
    """`part` as a percentage of `of`, two significant digits.

    >>> percent(12.3, 1000.0)
    '1.2 %'
    """
    return f"{digits(100.0 * part / of, 2)} %" if of > 0 else MISSING


def duration(seconds: float) -> str:
    """A time span in the unit that fits.

    >>> [duration(x) for x in (0.0042, 7.25, 119.9, 4000.0)]
    ['4.20 ms', '7.25 s', '2 min 0 s', '1 h 6 min']
    """
    if seconds < 1.0:
        return f"{digits(1e3 * seconds)} ms"
    if seconds < 60.0:
        return f"{digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: float) -> str:
    """A file size.

    >>> size(3_400_000)
    '3.40 MB'
    """
    power = min(3, max(0, int(math.log10(max(num_bytes, 1.0)) // 3)))
    return f"{digits(num_bytes / 1000**power)} {('B', 'kB', 'MB', 'GB')[power]}"
