"""``qcompile explain QR301``: the page of one code."""

import click

from qcompile.diagnostics.codes import Code
from qcompile.diagnostics.explain import page
from qcompile.diagnostics.suggest import did_you_mean


@click.command("explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain a code: why it exists, what triggers it, the way out. Without CODE: list all."""
    if code is None:
        for item in Code:
            click.echo(f"{item.number}  {item.severity.value:<7}  {item.slug}")
        return
    wanted = code.upper()
    known = {item.number: item for item in Code} | {item.slug.upper(): item for item in Code}
    if wanted not in known:
        guess = did_you_mean(wanted, [item.number for item in Code])
        raise click.UsageError(f"there is no code `{code}`" + (f"; {guess}" if guess else ""))
    click.echo(page(known[wanted]), nl=False)
