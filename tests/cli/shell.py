"""The command line as a test types it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from creditgate_server.cli.output import ExitCode
from creditgate_server.cli.program import app

IMAGES = ("--action", "image.generate", "--model", "recraft-v3")
VIDEO = ("--action", "video.generate", "--model", "video-studio")


@dataclass(frozen=True)
class Shell:
    """Runs `creditgate` against one server, and expects its exit code."""

    address: str

    def run(self, *words: str, code: ExitCode = ExitCode.OK, **env: str) -> Result:
        """What a command says."""
        runner = CliRunner(
            env={"CREDITGATE_ADDRESS": self.address, "COLUMNS": "200", "NO_COLOR": "1", **env}
        )
        result = runner.invoke(app, words)
        unexpected = result.exception and not isinstance(result.exception, SystemExit)
        assert not unexpected, repr(result.exception)
        assert result.exit_code == code, result.output
        return result

    def text(self, *words: str, code: ExitCode = ExitCode.OK) -> str:
        """What a command tells people, runs of spaces as one."""
        said = self.run(*words, code=code).output
        return "\n".join(" ".join(line.split()) for line in said.splitlines())

    def json(self, *words: str, code: ExitCode = ExitCode.OK) -> Any:
        """What a command tells programs: one document on stdout."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def fault(self, *words: str, code: ExitCode = ExitCode.FAULT) -> Any:
        """What a command that fails tells programs: one document on stderr, nothing on stdout."""
        result = self.run(*words, "--json", code=code)
        assert not result.stdout
        return json.loads(result.stderr)


@dataclass(frozen=True)
class Shop(Shell):
    """A server that nobody else talks to, and the file of its catalog."""

    catalog: Path


SHOP = """\
name = "shop"
[credit]
unit = "credit"
[kinds]
free = { rank = 1 }
subscription = { rank = 2 }
add_on = { rank = 3 }
top_up = { rank = 4 }
[everyone.grants.daily]
kind = "free"
amount = 10
every = "day"
[plans.free]
title = "Free"
default = true
actions = ["draw"]
[plans.team]
title = "Team"
subscription = true
[plans.team.grants.base]
kind = "subscription"
amount = 100
every = "month"
per = "seat"
[plans.pro]
title = "Pro"
subscription = true
[plans.pro.grants.base]
kind = "subscription"
amount = 1000
every = "month"
per = "seat"
[add_ons.more]
title = "More"
[add_ons.more.plans.team]
amount = 50
[top_ups]
packs = [200, 800]
buyers = "subscribers"
on_lapse = "freeze"
[actions.draw]
title = "Draw"
price = 2
unit = "image"
[actions.film]
title = "Film"
price = 5
unit = "second"
"""
