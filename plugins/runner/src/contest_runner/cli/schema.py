"""`contest schema`: the JSON Schema of a job, for editors."""

from __future__ import annotations

import click

from contest_core.cli.group import output_option, plugins_of


@click.command(short_help="Print the JSON Schema of a job, for editors.")
@output_option()
@click.pass_context
def schema(ctx: click.Context, output: str | None) -> None:
    """Print the JSON Schema of a job, with the parameters of everything that is installed.

    An editor completes and checks a job file with it. Write it beside your jobs, anew whenever you install a plugin,
    and name it in the first line of each, relative to the job's own file:

    \b
      contest schema --output job.schema.json

    \b
      # yaml-language-server: $schema=job.schema.json
      JobName: ...

    That is what VS Code (with its YAML extension), Vim, Emacs and JetBrains' editors look for. What a schema cannot say
    is checked by `contest validate`.
    """
    from contest_core.cli.files import give
    from contest_runner.catalog import Catalog
    from contest_runner.descriptor_schema import descriptor_schema

    give(descriptor_schema(Catalog(plugins_of(ctx))), output, "the JSON Schema of a job")
