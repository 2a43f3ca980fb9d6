"""Templates: the part of Go's text/template that ConTest's descriptors use, over one target.

The runner compiles each parameter that is written as a template once a job and renders it for each target in each
step; it gives the functions, the variables of earlier steps and the limits, and it puts its prefix before errors. This
package knows no job, no step and no plugin, and imports nothing of the runner.

    template = compile("hello {{ .ID }}")
    template.render(target)

What of Go is not here: methods that would change a target (`UnmarshalText`, `UnmarshalJSON`), what lies behind the
end of raw JSON in memory, names in letters that are newer than the Unicode of the Python that runs this, and values
that no target has and no function returns (channels, pointers, other structs).
"""

from contest_runner.templates.errors import TemplateError
from contest_runner.templates.functions import (
    STANDARD,
    Function,
    Rendering,
    Variables,
    check_reference,
    describe,
    do_nothing,
    int_var,
    needs_variables,
    string_var,
    title,
    to_lower,
    to_upper,
)
from contest_runner.templates.limits import DEFAULT_LIMITS, Limits
from contest_runner.templates.template import Renderer, Template, compile
from contest_runner.templates.values import TARGET_FIELDS, TargetData

__all__ = [
    "DEFAULT_LIMITS",
    "STANDARD",
    "TARGET_FIELDS",
    "Function",
    "Limits",
    "Renderer",
    "Rendering",
    "TargetData",
    "Template",
    "TemplateError",
    "Variables",
    "check_reference",
    "compile",
    "describe",
    "do_nothing",
    "int_var",
    "needs_variables",
    "string_var",
    "title",
    "to_lower",
    "to_upper",
]
